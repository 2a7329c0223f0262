"""From what people name (photos, folders, patterns, archives, URLs, latents) to photos with names for their results."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stkit.checkpoints.suffixes import ARRAY_SUFFIXES
from stkit.errors import LatentsError, PhotoError, UsageError, reason_of
from stkit.files import LOCK, marked_name, name_key, read_lines, safe_name
from stkit.photo.archives import ARCHIVE_SUFFIXES, open_archive
from stkit.photo.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from stkit.remote import RemotePath, as_path, is_remote

if TYPE_CHECKING:
    from stkit.jobs.report import Row
    from stkit.latents.latents import Latents

_OWN = re.compile(r"report\.(csv|json|html)|latents\.safetensors|contact-sheet(-\d+)?\.jpg", re.IGNORECASE)
"""What a batch itself writes to its output folder."""
_MAX_NAME = 1000  # bytes of an item's name, folders included


@dataclass(frozen=True)
class Item:
    """One photo of a batch: where it is, and its results' folder and first part of their names below the output.

    With `latents`, the codes of one photo's subjects, which stand for it; `path` then says where they are. The results
    of a `beside` item have no folder of their own. `earlier` is what another run found of it.
    """

    path: Path
    name: PurePosixPath
    latents: Latents | None = None
    beside: bool = False
    earlier: Row | None = None

    def base(self, out: Path) -> Path:
        """The beginning of the paths of all results below `out`."""
        return out / self.name if self.beside else out / self.name / self.name.name


@dataclass(frozen=True)
class Listing:
    """The photos in order of their names, the number of files left aside, and (path, reason) of what cannot be read.

    `alone` is one photo that was named itself, the latents of one, or a clip.
    """

    items: tuple[Item, ...]
    ignored: int = 0
    problems: tuple[tuple[str, str], ...] = ()
    alone: bool = False


LIST_SUFFIX = ".txt"
"""That of a list of photos, one a line: paths or URLs."""
TABLE_SUFFIX = ".latents.parquet"
"""That of the codes of many photos, see `stkit.latents.table`."""
LATENT_SUFFIX = ".safetensors"
"""That of stkit's own latent files; codes of other programs have one of `stkit.checkpoints.suffixes.ARRAY_SUFFIXES`."""


def is_batch(sources: Sequence[str]) -> bool:
    """Whether `sources` are a folder, a pattern, an archive, a list of URLs or several things, and not one file."""
    if len(sources) != 1:
        return True
    path = as_path(sources[0])
    if isinstance(path, RemotePath):
        return path.suffix.lower() not in IMAGE_SUFFIXES or glob.has_magic(sources[0])
    if path.is_dir():
        return True
    is_many = path.suffix.lower() in (*ARCHIVE_SUFFIXES, LIST_SUFFIX)
    return is_many or (glob.has_magic(sources[0]) and not os.path.lexists(path))


def is_clip(sources: Sequence[str]) -> bool:
    """Whether `sources` are one video."""
    path = Path(sources[0])
    is_video = len(sources) == 1 and path.suffix.lower() in VIDEO_SUFFIXES
    return is_video and not is_remote(sources[0]) and not path.is_dir()


def is_latents(source: str) -> bool:
    """Whether a name is that of latents, stkit's own or other programs' codes."""
    return source.endswith((LATENT_SUFFIX, TABLE_SUFFIX, *ARRAY_SUFFIXES))


def open_latents(path: Path, domain: str | None = None, weights: str | None = None) -> Latents:
    """The codes of a latent file, or those of another program for `weights`, by default those of `domain`.

    Raises LatentsError, UsageError.
    """
    from stkit.checkpoints.codes import read_codes
    from stkit.editor.opening import open_weights
    from stkit.headers import is_foreign
    from stkit.latents.latents import load_latents

    if path.suffix not in ARRAY_SUFFIXES and not is_foreign(path):
        return load_latents(path)
    if not path.is_file():
        raise LatentsError(f"there is no file {path}; check the name")
    return read_codes(path, open_weights(domain, weights))


def is_one_photo(sources: Sequence[str]) -> bool:
    """Whether `sources` are one photo, or the latents of one. Raises as `list_photos` for latents."""
    return not is_batch(sources) and not is_clip(sources) and list_sources(sources, Path(), open_latents).alone


Load = Callable[[Path], "Latents"]


def list_sources(sources: Sequence[str], out: Path, load: Load | None) -> Listing:
    """What `sources` name: one photo or clip, whatever it is called; latents, read by `load`; or `list_photos`.

    Without `load` latents are no sources.
    Raises as `list_photos`; a photo or clip that is named alone need not be there.
    """
    if is_batch(sources):
        return list_photos(sources, out, load)
    path = as_path(sources[0])
    if load is not None and is_latents(sources[0]):
        listing = list_photos(sources, Path(), load)
        if len(listing.items) > 1:
            return listing
        name = PurePosixPath(safe_name(path.stem.removesuffix(".latents")))
        (item,) = listing.items
        return Listing((Item(path, name, item.latents, beside=True),), alone=True)
    return Listing((Item(path, PurePosixPath(safe_name(path.stem))),), alone=True)


def list_photos(sources: Sequence[str], out: Path, load: Load | None = None) -> Listing:
    """The photos of `sources`, by their suffix; hidden files, other files and everything under `out` are left aside.

    Latent files that are named, or whose ending a pattern names, give an item for each photo that they hold. Symbolic
    links are followed, each folder is read once. Raises UsageError when a pattern matches nothing or `out` is among the
    sources, PhotoError when there is no photo at all.
    """
    found: dict[Path, PurePosixPath] = {}
    codes: dict[Path, Latents] = {}
    ignored = 0
    problems: list[tuple[str, str]] = []
    visited: set[tuple[int, int]] = set()
    for source in sources:
        if is_latents(source):
            for path, name, latents in _latents(source, load or open_latents, problems):
                found[path], codes[path] = name, latents
            continue
        for path, inside in _entries(source, out, problems, visited):
            if inside is None or inside.suffix.lower() not in IMAGE_SUFFIXES or inside.name.startswith("."):
                ignored += 1
            else:
                found.setdefault(path, inside)
    if not found and problems:
        raise PhotoError(problems[0][1])
    if not found and any(as_path(source).suffix.lower() in VIDEO_SUFFIXES for source in sources):
        raise UsageError("videos are edited one at a time; name one alone")
    if not found:
        also = f" ({ignored} other files were left aside)" if ignored else ""
        raise PhotoError(
            f"no photo in {', '.join(sources)}{also}; name a folder that holds photos{_or_latents(sources)}"
        )
    items = [Item(path, name, codes.get(path)) for path, name in zip(found, _names(found), strict=True)]
    return Listing(tuple(sorted(items, key=lambda item: item.name)), ignored, tuple(problems))


def _or_latents(sources: Sequence[str]) -> str:
    """How to name the latents of earlier results, where a source is their folder."""
    for source in sources:
        path, is_pattern = as_path(source), glob.has_magic(source)
        files: Iterable[Path] = path.rglob("*.latents.*")
        if isinstance(path, RemotePath):
            files = path.find()
        elif is_pattern:
            files = map(Path, glob.iglob(source, recursive=True))
        for file in files:
            if file.name.endswith(TABLE_SUFFIX):
                return f", or for the latents of earlier results '{file.parent}/*{TABLE_SUFFIX}'"
            if file.name.endswith(f".latents{LATENT_SUFFIX}") and not is_pattern:
                return f", or for the latents of earlier results '{path}/**/*.latents{LATENT_SUFFIX}'"
    return ""


def matching(source: str) -> list[Path]:
    """The files that a name, a pattern or a URL stands for, in order. Raises LatentsError where nobody may look."""
    path = as_path(source)
    if isinstance(path, RemotePath):
        try:
            return list(path.parent.glob(path.name))
        except OSError as error:
            raise LatentsError(_not_reached(path, error)) from error
    return [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(source, recursive=True)))


def _latents(source: str, load: Load, problems: list[tuple[str, str]]) -> Iterator[tuple[Path, PurePosixPath, Latents]]:
    """Path, name and codes of each photo in the latent files of one source; several of a file as FILE/PHOTO."""
    from stkit.latents.latents import join_latents
    from stkit.latents.table import NoCodesError

    try:
        matches = matching(source)
    except LatentsError as error:
        problems.append((source, str(error)))
        return
    if not matches:
        problems.append((source, f"there is no file {source}; check the name"))
    for path in matches:
        if path.name.startswith("tuning-"):
            continue  # what PTI leaves beside latents
        try:
            latents = load(path)
        except NoCodesError as error:
            if len(matches) == 1:
                problems.append((str(path), str(error)))
            continue
        except LatentsError as error:
            problems.append((str(path), str(error)))
            continue
        photos: dict[str | int, list[Latents]] = {}
        for index in range(len(latents)):
            row = latents.row(index)
            name = row.provenance[0].photo if row.provenance else None
            photos.setdefault(index if name is None else name, []).append(row)
        own = path.stem.removesuffix(".latents")
        if len(photos) == 1:
            yield path, PurePosixPath(f"{own}.latents"), join_latents(next(iter(photos.values())))
            continue
        places: set[Path] = set()
        for photo, rows in photos.items():
            parts = [part for part in re.split(r"[/\\]", str(photo)) if part not in ("", ".")]
            place = path.joinpath(*map(safe_name, parts))
            if place in places or place == path:  # `/a` and `a`, a photo called 0 and the first row without one
                place = path / marked_name(str(photo), repr(photo))
            places.add(place)
            yield place, PurePosixPath(*parts[-1:]), join_latents(rows)


def _entries(
    source: str, out: Path, problems: list[tuple[str, str]], visited: set[tuple[int, int]]
) -> Iterator[tuple[Path, PurePosixPath | None]]:
    """Files of one source with their path inside it; None for a hidden folder."""
    path = as_path(source)
    if path.suffix.lower() == LIST_SUFFIX:
        yield from _listed(path, problems)
    elif isinstance(path, RemotePath):
        yield from _remote_entries(path, out, problems)
    elif os.path.lexists(path):
        if path.is_dir() and out.exists() and out.samefile(path):
            raise UsageError(f"--out is the folder of the photos, {path}; choose another one for the results")
        yield from _expand(path, PurePosixPath(), out, problems, visited)
    elif glob.has_magic(source):
        # Names are relative to the part before the first wildcard, so that they stay when files come and go.
        fixed = 0
        while fixed < len(path.parts) and not glob.has_magic(path.parts[fixed]):
            fixed += 1
        root = Path(*path.parts[:fixed])
        matches = sorted(glob.glob(source, recursive=True))
        if not matches:
            raise UsageError(f"nothing matches {source}; check the pattern")
        covered = {match for match in map(Path, matches) if match.is_dir()}
        inner = {folder for match in map(Path, matches) for folder in match.parents if root in folder.parents}
        results = {folder for folder in inner if _is_output(folder, out)}
        for match in map(Path, matches):
            if not any(folder in covered or folder in results for folder in match.parents):
                inside = PurePosixPath(*(part for part in match.relative_to(root).parts if part != ".."))
                parent = inside if match.is_dir() else inside.parent
                yield from _expand(match, parent, out, problems, visited)
    else:
        problems.append((source, f"there is no file {source}; check the name"))


def _expand(
    path: Path, parent: PurePosixPath, out: Path, problems: list[tuple[str, str]], visited: set[tuple[int, int]]
) -> Iterator[tuple[Path, PurePosixPath | None]]:
    if path.is_dir():
        yield from _walk(path, parent, out, problems, visited)
    elif path.name.endswith(TABLE_SUFFIX):
        yield path, None
    elif path.suffix.lower() in ARCHIVE_SUFFIXES:
        try:
            archive = open_archive(path)
        except PhotoError as error:
            problems.append((str(path), str(error)))
            return
        for member in archive.members:
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in member.parts)
            yield path / member, None if hidden else parent / member
        for member in archive.repeated:
            problems.append((str(path / member), "is in the archive more than once; only the last one can be read"))
    else:
        yield path, parent / path.name


def _remote_entries(
    path: RemotePath, out: Path, problems: list[tuple[str, str]]
) -> Iterator[tuple[Path, PurePosixPath | None]]:
    """`_entries` of a URL: a file; or all below it, or that match its pattern, but for results."""
    if path == out:
        raise UsageError(f"--out is the folder of the photos, {path}; choose another one for the results")
    try:
        alone = not glob.has_magic(str(path)) and path.suffix and path.is_file()
        files = [path] if alone else path.find()
    except OSError as error:
        problems.append((str(path), _not_reached(path, error)))
        return
    if not files:
        problems.append((str(path), f"there is nothing at {path}; check the name"))
    fixed = 0 if alone else next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    results = {file.parent for file in files if file.name == LOCK} | {out}
    for file in files:
        if results.isdisjoint(file.parents):
            inside = PurePosixPath(*file.parts[fixed:]) if fixed else PurePosixPath(file.name)
            hidden = any(part.startswith(".") for part in inside.parts)
            expanded = _expand(file, inside.parent, out, problems, set())
            yield from ((found, None if hidden else within) for found, within in expanded)


def _not_reached(path: RemotePath, error: OSError) -> str:
    return f"cannot read {path}: {reason_of(error)}; check the name, and who may read it"


def _listed(path: Path, problems: list[tuple[str, str]]) -> Iterator[tuple[Path, PurePosixPath | None]]:
    """The photos of a list, which has one a line; relative ones are in the folder of the list."""
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        problems.append((str(path), f"cannot read {path} as a list of photos: {reason_of(error)}"))
        return
    for line in filter(None, map(str.strip, lines)):
        try:
            found = as_path(line) if is_remote(line) else path.parent / as_path(line)
        except UsageError as error:
            problems.append((line, str(error)))
            continue
        name = PurePosixPath(found.name)
        if isinstance(found, RemotePath):  # like https://host/photo?id=3
            name = PurePosixPath(PurePosixPath(urlsplit(str(found)).path).name or "photo")
            name = name if name.suffix.lower() in IMAGE_SUFFIXES else name.with_name(f"{name.name}.jpg")
        yield found, name


def _walk(
    root: Path, parent: PurePosixPath, out: Path, problems: list[tuple[str, str]], visited: set[tuple[int, int]]
) -> Iterator[tuple[Path, PurePosixPath | None]]:
    def unreadable(error: OSError) -> None:
        reason = f"cannot read the folder {error.filename}: {error.strerror}; allow it with chmod +rx"
        problems.append((str(error.filename), reason))

    for name, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        folder = Path(name)
        state = folder.stat()
        if (state.st_dev, state.st_ino) in visited or _is_output(folder, out):
            folders.clear()  # a link back, or results
            continue
        visited.add((state.st_dev, state.st_ino))
        inside = parent / PurePosixPath(folder.relative_to(root).as_posix())
        for hidden in [child for child in folders if child.startswith(".")]:
            folders.remove(hidden)
            yield folder / hidden, None
        folders.sort()
        for file in sorted(files):
            yield folder / file, inside / file


def _is_output(folder: Path, out: Path) -> bool:
    return (folder / LOCK).exists() or folder.resolve() == out.resolve()


def _names(found: dict[Path, PurePosixPath]) -> Iterator[PurePosixPath]:
    """A name for each photo: without its suffix where that is unique, else with it, else with a hash of its path."""
    short = [_safe([*inside.parts[:-1], inside.stem]) for inside in found.values()]
    stems = Counter(map(_key, short))
    names = [
        stem if stems[_key(stem)] == 1 else _safe(inside.parts)
        for stem, inside in zip(short, found.values(), strict=True)
    ]
    names = _beside_results(names)
    taken = Counter(map(_key, names))
    for path, name in zip(found, names, strict=True):
        yield name if taken[_key(name)] == 1 else name.with_name(marked_name(name.name, str(path.absolute())))


def _beside_results(names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """`names`, those marked that the results of another photo may have: `a/a.json` where there is an `a`."""
    folders = set(map(_key, names))

    def part(name: PurePosixPath, at: int) -> str:
        own, folder = name.parts[at], PurePosixPath(*name.parts[:at])
        is_result = _key(folder) in folders and name_key(own).startswith(name_key(f"{folder.name}."))
        return marked_name(own.replace(".", "_"), own) if is_result else own

    return [PurePosixPath(*(part(name, at) for at in range(len(name.parts)))) for name in names]


def _key(name: PurePosixPath) -> str:
    return name_key(str(name))


def _safe(parts: Sequence[str]) -> PurePosixPath:
    """A path of safe names, which leads nowhere but further down."""
    first, *others = map(safe_name, parts or [""])
    name = PurePosixPath(marked_name(first, first) if _OWN.fullmatch(first) else first, *others)
    return name if len(os.fsencode(name)) <= _MAX_NAME else PurePosixPath(safe_name("/".join(parts)))


__all__ = [
    "LATENT_SUFFIX",
    "Item",
    "Listing",
    "is_batch",
    "is_clip",
    "is_latents",
    "is_one_photo",
    "list_photos",
    "list_sources",
    "matching",
    "open_latents",
]
