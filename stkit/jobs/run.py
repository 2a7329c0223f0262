"""Do what a request asks for: one photo, many, ZIP archives or a clip, with the same outputs and the same report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stkit.editor.editor import Editor
from stkit.editor.opening import open_editor
from stkit.editor.refinement import QUALITIES, edit_quality, parse_refinements, refinements_of
from stkit.editor.steps import EditStep
from stkit.errors import UsageError
from stkit.files import locked, reserved
from stkit.jobs.clip import ClipJob
from stkit.jobs.codes import CodesJob, earlier_rows, keep_codes
from stkit.jobs.edit import EditJob
from stkit.jobs.invert import InversionJob, find_place, join_folder
from stkit.jobs.previews import contact_sheets, parse_sweep
from stkit.jobs.report import REPORT, Report, Row, add_to_report, write_report
from stkit.jobs.request import EditRequest, InvertRequest, Request
from stkit.jobs.runner import run_batch, run_one
from stkit.jobs.sources import Item, Listing, is_clip, is_latents, list_sources, open_latents
from stkit.jobs.spreading import spread_rows
from stkit.jobs.video import VideoEdit
from stkit.latents.latents import Latents, join_latents
from stkit.options import LayerRange, build_options
from stkit.photo.paste import parse_blend
from stkit.plugins import load_plugins
from stkit.remote import RemotePath
from stkit.weights import weights_names

logger = logging.getLogger("stkit")

_BYTES_A_ROW = 2000  # about, of both reports: there is room for them when the disk is full

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are (0 when nobody knows)."""


def run(request: Request, on_progress: Progress | None = None) -> Report:
    """Invert or edit what `request` names; files and report are those of `stkit invert` and `stkit edit`.

    What is wrong with one photo that is named alone is raised: PhotoError, SubjectError, OutputError, ... Of many, it
    fails that photo's row. What would be the same for all (UsageError, WeightsError, a full disk) is always raised.
    Started again after whatever ended it, the same request goes on where it was. KeyboardInterrupt says how far it
    came.
    """
    tell = on_progress or _ignore
    if isinstance(request, EditRequest):
        return _edit(request, tell)
    if isinstance(request, InvertRequest):
        return _invert(request, tell)
    raise UsageError(f"a request is an InvertRequest or an EditRequest, not a {type(request).__name__}")


def _invert(request: InvertRequest, tell: Progress) -> Report:
    out = request.out or Path("out")
    if isinstance(out, RemotePath) and request.latents == "one":
        raise UsageError("--latents one reads results again; name a folder of this machine with --out")
    refine = _refinements(request)
    listing = list_sources(request.names, out, load=None)
    if listing.alone and request.sheet:
        raise UsageError("--sheet is for many photos; one has its side-by-side picture")
    if not listing.alone:
        find_place("largest", request.landmarks, request.box, alone=False)
        if request.latents == "one" or request.format == "parquet":
            _require_untuned(request.inverter, refine)
    elif request.format == "parquet":
        raise UsageError("--format parquet is for many photos; name a folder, or leave it out")
    editor = open_editor(request.domain, request.weights, request.device)
    refine = _refinements(request, editor.weights.resolution)
    inverter = editor.registry.inverter_for(editor.weights, request.inverter)
    given = build_options(inverter.Options, dict(request.options)).model_dump(exclude_unset=True)
    if closer := _needed(editor, request):
        logger.info("the encoder alone shows something alike; --quality %s comes closer", closer)

    settings: dict[str, Any] = {"out": out, "inverter": request.inverter, "options": given}
    settings |= _shared(request, refine, listing, tell)
    kind = CodesJob if request.format == "parquet" else InversionJob
    job = partial(kind, editor=editor, **settings)
    together = 1 if refine else request.batch_size
    spread = spread_rows(request, partial(_remote_job, kind, request, settings), together)
    finish = join_folder if request.latents == "one" else None
    keep: Callable[[Iterator[Row]], Generator[Row]] | None = None
    if request.format == "parquet":
        facts: dict[str, Any] = {"generator": editor.weights.space, "space": "w_plus", "settings": dict(job().settings)}
        earlier = {} if request.overwrite else earlier_rows(out, facts["settings"])
        items = [dataclasses.replace(item, earlier=earlier.get(str(item.path))) for item in listing.items]
        listing = dataclasses.replace(listing, items=tuple(items))
        keep = partial(keep_codes, out=out, facts=facts)
    return _run_job(request, listing, out, job, together, tell, finish, spread, keep)


def _edit(request: EditRequest, tell: Progress) -> Report:
    sources = request.names
    refine = _refinements(request)
    blend = parse_blend(request.blend)
    strengths = parse_sweep(request.sweep) if request.sweep else []
    if request.animate and not strengths:
        raise UsageError("--animate shows a sweep; give --sweep FIRST:LAST:COUNT too")
    out = request.out or Path("out")
    listing = list_sources(sources, out, partial(open_latents, domain=request.domain, weights=request.weights))
    _require_fitting(request, refine, listing)
    editor = open_editor(request.domain, request.weights or _weights_of(listing), request.device)
    refine = _refinements(request, editor.weights.resolution)
    photos = not is_clip(sources) and any(item.latents is None for item in listing.items)
    if photos and (quality := _needed(editor, request)):
        logger.info("to be edited, photos are inverted with --quality %s; --quality fast is a quick look", quality)
        refine = refinements_of(editor.registry, quality, (), editor.weights.resolution)
    references = _references(editor, request, tell)
    steps = edit_steps(editor, request, references)
    editor.try_steps(steps, references, request.seed)
    if strengths and len(steps) != 1:
        raise UsageError("--sweep goes through the strengths of one edit; give one --edit, or --method and --attribute")
    if is_clip(sources):
        if request.engine:
            raise UsageError("--engine is for photos, not for a video")
        edit = VideoEdit(steps, references, request.seed, blend, request.smooth, request.inverter, mark=request.mark)
        clips = partial(ClipJob, editor, out, edit, request.batch_size, request.overwrite, tell)
        return _run_job(request, listing, out, clips, 1, tell)
    if request.out is None and listing.alone and listing.items[0].latents is not None:
        out = listing.items[0].path.parent

    settings: dict[str, Any] = {"out": out, "steps": steps, "blend": blend, "crop_only": request.crop_only}
    settings |= {"inverter": request.inverter, "mark": request.mark, "references": references, "seed": request.seed}
    settings |= {"sweep": strengths, "animate": request.animate}
    settings["asked"] = bool(request.quality or request.refine or request.inverter)
    settings |= _shared(request, refine, listing, tell)
    job = partial(EditJob, editor=editor, **settings)
    together = 1 if refine else request.batch_size
    spread = spread_rows(request, partial(_remote_job, EditJob, request, settings), together)
    return _run_job(request, listing, out, job, together, tell, spread=spread)


def _refinements(request: Request, resolution: int = 1024) -> tuple[str, ...]:
    refine = refinements_of(load_plugins(), request.quality or QUALITIES[0], request.refine, resolution)
    parse_refinements(load_plugins(), refine)
    return refine


def _needed(editor: Editor, request: Request) -> str | None:
    """The quality that edits with these weights need, if not fast, where the request says nothing of its own."""
    if request.quality is not None or request.refine or request.inverter is not None:
        return None
    quality = edit_quality(editor.weights)
    return None if quality == QUALITIES[0] else quality


def _weights_of(listing: Listing) -> str | None:
    """The weights that the latents were made with, where all sources are latents of the same ones and these are there.

    So codes go on being edited after the domain's default weights have become others.
    """
    rows = [item.latents.provenance if item.latents is not None else () for item in listing.items]
    named = {row.weights for of_item in rows for row in of_item}
    return named.pop() if all(rows) and len(named) == 1 and named <= weights_names().keys() else None


def edit_steps(editor: Editor, request: EditRequest, references: Latents | None = None) -> list[EditStep]:
    """What to do, from one method or from `edits`. Raises UsageError."""
    layers = LayerRange.parse(request.layers) if request.layers else None
    if request.edits and (request.method or request.attribute):
        raise UsageError("give either --method and --attribute, or --edit")
    if request.edits:
        if request.strength is not None:
            raise UsageError("--strength goes with --method; an --edit names its own, like --edit age=+1.5")
        if request.options:
            raise UsageError("-o goes with a single --method; an --edit takes its method's default options")
        return [
            edit if isinstance(edit, EditStep) else editor.parse_step(edit, references, layers)
            for edit in request.edits
        ]
    if request.method is None:
        raise UsageError("give --method and --attribute, or --edit like --edit age=+1.5; see `stkit methods`")
    options = build_options(editor.registry.editing_method(request.method).Options, dict(request.options))
    strength = 1.0 if request.strength is None else request.strength
    return [EditStep(request.method, request.attribute, strength, layers, options.model_dump(exclude_unset=True))]


def _run_job(
    request: Request,
    listing: Listing,
    out: Path,
    make_job: Callable[[], Any],
    batch_size: int,
    tell: Progress,
    finish: Callable[[Any, list[Item]], Path] | None = None,
    spread: Callable[[Sequence[Item]], Iterator[Row]] | None = None,
    keep: Callable[[Iterator[Row]], Generator[Row]] | None = None,
) -> Report:
    """Run the job on all that is listed, and write the report: of many however it ends, of one when it is done.

    `spread` runs it on many by an engine; `keep` keeps what rows have on them, and gives them on.
    """
    if listing.alone:
        if spread is not None:
            raise UsageError("--engine is for many photos; name a folder, or leave it out")
        row = run_one(listing.items[0], make_job(), tell)
        add_to_report([row], out / REPORT)
        return Report((row,), out, alone=True)
    if isinstance(out, RemotePath) and request.sheet:
        raise UsageError("--sheet reads results again; name a folder of this machine with --out")
    problems = [Row(path, "failed", reason) for path, reason in listing.problems]
    done = {str(item.path): Row(str(item.path), "not reached") for item in listing.items}
    room = _BYTES_A_ROW * (len(done) + len(problems) + 4)
    with locked(out), reserved(out / REPORT, room) as free_room:
        job = make_job()
        if not all(item.latents for item in listing.items):
            _ = job.editor.lpips  # notes here what is missing: in the batch it would be the first photo's
        try:
            tell("photos", 0, len(done))
            rows = spread(listing.items) if spread else run_batch(listing.items, job, batch_size)
            with contextlib.closing((keep or _as_they_are)(rows)) as kept:
                for count, row in enumerate(kept, 1):
                    done[row.photo] = row
                    tell("photos", count, len(done))
            items = [item for item in listing.items if done[str(item.path)].status in ("ok", "kept")]
            made = [finish(job, items)] if finish and items else []
            if request.sheet:
                made += contact_sheets([(str(item.name), job.pictures(item)) for item in items], out / "contact-sheet")
        except KeyboardInterrupt:
            reached = sum(row.status != "not reached" for row in done.values())
            raise KeyboardInterrupt(
                f"interrupted after {reached} of {len(done)} photos; start the same command again to go on"
            ) from None
        finally:
            free_room()
            write_report([*done.values(), *problems], out / REPORT)
    return Report((*problems, *done.values()), out, tuple(made), listing.ignored)


def _remote_job(kind: type, request: Request, settings: Mapping[str, Any]) -> Any:
    """The job in a worker, with an editor of its own."""
    return kind(editor=open_editor(request.domain, request.weights, request.device), **settings)


def _shared(request: Request, refine: Sequence[str], listing: Listing, tell: Progress) -> dict[str, Any]:
    """What both jobs of photos take."""
    shared: dict[str, Any] = {"face": request.face, "refine": refine, "overwrite": request.overwrite}
    if listing.alone:
        where = {"landmarks": request.landmarks, "box": request.box}
        shared |= {"alone": True, "on_progress": _stages(request, refine, tell), **where}
    return shared


def _stages(request: Request, refine: Sequence[str], tell: Progress) -> Callable[[int, int], None]:
    """Tells of the steps of an inversion by the names of what takes them, one after the other."""
    known = load_plugins().inverters.get(request.inverter or "")
    first = [f"inverting ({request.inverter})"] if known is not None and known.refines else []
    names = [*first, *(f"refining ({text})" for text in refine)] or ["inverting"]
    last = 0

    def move(done: int, total: int) -> None:
        nonlocal last
        if done < last and len(names) > 1:  # the next one begins
            del names[0]
        last = done
        tell(names[0], done, total)

    return move


def _references(editor: Editor, request: EditRequest, tell: Progress) -> Latents | None:
    """The codes of the reference photos, or of latent files."""
    found = []
    for source in map(Path, request.ref):
        if is_latents(str(source)):
            found.append(open_latents(source, request.domain, request.weights or editor.weights.name))
        else:
            found.append(editor.invert(source, request.inverter, on_progress=partial(tell, "inverting")).latents)
    return join_latents(found) if found else None


def _require_fitting(request: EditRequest, refine: Sequence[str], listing: Listing) -> None:
    """Raise UsageError for what does not go with what is to be edited."""
    where = request.landmarks is not None or request.box is not None
    clip = is_clip(request.names)
    if clip or not listing.alone:
        if request.sweep:
            raise UsageError("--sweep, --show and --preview are for one photo; name it alone")
        if where:
            raise UsageError("--landmarks and --box are for one photo; name it alone")
    if clip:
        if request.crop_only or request.sheet or refine or request.face != "largest":
            raise UsageError("--crop-only, --sheet, --quality, --refine and --face are for photos, not for a video")
    elif listing.alone and request.sheet:
        raise UsageError("--sheet is for many photos; one has its before-after picture")
    elif all(item.latents is not None for item in listing.items) and (request.face != "largest" or where or refine):
        raise UsageError(
            "--face, --landmarks, --box, --quality and --refine are for photos; these latents are inverted already"
        )


def _require_untuned(inverter: str | None, refine: Sequence[str]) -> None:
    """Raise UsageError for inverters that tune a generator, where all codes are to go into one file."""
    known = load_plugins().inverters
    for name in (inverter or "", *(text.partition(":")[0] for text in refine)):
        if name in known and known[name].tunes:
            hint = "which one latent file cannot hold; leave out --latents"
            raise UsageError(f"{name} tunes a generator for each photo, {hint}")


def _as_they_are(rows: Iterator[Row]) -> Generator[Row]:
    yield from rows


def _ignore(what: str, done: int, total: int) -> None:
    pass


__all__ = ["Progress", "edit_steps", "run"]
