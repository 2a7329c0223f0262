"""Foreign checkpoints as weights folders of a user's own."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from stkit.checkpoints.download import load_official
from stkit.checkpoints.layout import Part, Recognised
from stkit.checkpoints.reading import Checkpoint, refuse_hostile
from stkit.checkpoints.recognise import open_checkpoint
from stkit.contracts.domains import DEFAULT_DOMAIN
from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.shapes import shape_values
from stkit.errors import OutputError, UsageError, WeightsError
from stkit.files import remove_leftovers
from stkit.models.registry import read_config
from stkit.plugins import load_plugins
from stkit.tensors import load_tensors, save_tensors
from stkit.weights import Header, Weights, find_weights, user_folder, weights_names

ALIGNMENTS = ("ffhq", "domain")
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{12}")
UNKNOWN_LICENCE = "unknown: see where the checkpoint came from"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a user says of a checkpoint; None is what a file of stkit's own says, or what is usual.

    `domain` is then faces, `alignment` is one of ALIGNMENTS: the domain's, or FFHQ's for large faces. `half` stores
    float16, half the size; differences are then about 1e-3 of a value.
    """

    domain: str | None = None
    alignment: str | None = None
    licence: str | None = None
    half: bool = False


def import_weights(path: Path, name: str, chosen: Chosen | None = None, generator: str | None = None) -> Weights:
    """Convert the checkpoint at `path` to weights `name` in the user's folder, complete or not at all.

    `generator` is a checkpoint file, or weights by name, to take the generator from. Weights that exist
    get the parts that they lack, if those belong to their generator: its synthesis network must be the
    checkpoint's, whatever the noise. Raises UsageError, WeightsError, OutputError.
    """
    with locked_weights():
        _import(path, name, chosen or Chosen(), generator, check_name(name))
    return find_weights(name)


def _import(path: Path, name: str, chosen: Chosen, generator: str | None, existing: Weights | None) -> None:
    checkpoint, found = open_checkpoint(path)
    refuse_hostile(checkpoint)
    parts = {part.kind: part for part in found.parts}
    if existing is None:
        base, source = _base_generator(parts, checkpoint, generator)
        header = new_header(base, chosen, source)
        with _new_folder(name) as folder:
            tensors = base.convert()
            header = _save(folder / "generator.safetensors", tensors, header, chosen.half)
            if generator is not None and "generator" in parts:
                require_same_synthesis(tensors, parts["generator"].convert(), f"{path} and {generator}")
            del tensors
            _save_parts(folder, parts, header, checkpoint, chosen)
    else:
        if generator is not None:
            raise UsageError(
                f"weights '{name}' have a generator already; leave --generator out, or choose another name"
            )
        missing = dict(_missing(parts, existing))
        if not missing:
            raise UsageError(
                f"weights '{name}' are there already and have all that {path} holds ({', '.join(parts)}); choose "
                f"another --name, or remove them with: stkit weights remove {name}"
            )
        if "generator" in parts:
            _, tensors = load_tensors(existing.path("generator"))
            require_same_synthesis(tensors, parts["generator"].convert(), f"{path} and weights '{name}'")
        remove_leftovers(existing.folder)
        _save_parts(existing.folder, missing, existing.header, checkpoint, chosen)


def _missing(parts: Mapping[str, Part], weights: Weights) -> Iterator[tuple[str, Part]]:
    """The parts that weights lack, by the kind of file to be; a second inverter becomes `inverter-ARCHITECTURE`."""
    kinds = weights.kinds()
    for kind, part in parts.items():
        if part.architecture in weights.inverters():
            continue
        if kind == "inverter" and kind in kinds:
            yield f"inverter-{part.architecture}", part
        elif kind not in kinds:
            yield kind, part


def check_name(name: str) -> Weights | None:
    """The user's weights of that name, if any. Raises UsageError for names of shipped weights and odd ones."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f"'{name}' cannot be a name of weights; use letters, digits, dots, hyphens and underscores")
    known = weights_names().get(name)
    if known is not None and known.parent != user_folder():
        raise UsageError(f"weights '{name}' come with stkit; choose another --name")
    return find_weights(name) if known else None


def require_same_synthesis(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: str) -> None:
    """Raise WeightsError unless two generators agree in their synthesis networks, noise and storage type aside."""
    keys = [key for key in ours if key.startswith("synthesis.") and not key.endswith("noise_const")]
    differing = [
        key
        for key in keys
        if key not in theirs
        or ours[key].shape != theirs[key].shape
        or not torch.equal(ours[key], theirs[key].to(ours[key].dtype))
    ]
    if differing:
        raise WeightsError(
            f"{names} have different generators: {len(differing)} of {len(keys)} tensors differ, {differing[0]} first; "
            "an encoder works with the generator that it was trained with"
        )


def _base_generator(
    parts: Mapping[str, Part], checkpoint: Checkpoint, generator: str | None
) -> tuple[Part, Checkpoint]:
    if generator is not None:
        known = generator in weights_names()
        path = find_weights(generator).path("generator") if known else Path(generator)
        other, found = open_checkpoint(path)
        refuse_hostile(other)
        parts, checkpoint = {part.kind: part for part in found.parts}, other
    if "generator" not in parts:
        held = ", ".join(f"{part.architecture} {kind}" for kind, part in parts.items())
        raise UsageError(
            f"{checkpoint.path} holds no generator ({held}); name one with --generator FILE, or the weights it belongs "
            "to with --name"
        )
    return parts["generator"], checkpoint


def new_header(part: Part, chosen: Chosen, checkpoint: Checkpoint) -> Header:
    """The header of a generator that becomes weights. Raises UsageError, WeightsError."""
    known = part.header
    domain = load_plugins().domain(chosen.domain or (known.domain if known else DEFAULT_DOMAIN))
    if chosen.alignment not in (None, *ALIGNMENTS):
        raise UsageError(f"alignment '{chosen.alignment}' is not one of {', '.join(ALIGNMENTS)}")
    own = {"ffhq": AlignmentTemplate("ffhq"), "domain": domain.template}
    if known is not None:
        stays = known.alignment if domain.name == known.domain else domain.template
        return dataclasses.replace(
            known,
            domain=domain.name,
            alignment=own[chosen.alignment] if chosen.alignment else stays,
            licence=chosen.licence or known.licence,
        )
    architecture = load_plugins().architecture(part.architecture)
    shape = read_config(architecture, part.config, checkpoint.path)
    usual = domain.imported_template(shape.img_resolution)
    digest = checkpoint.sha256()
    licence = next((official.licence for official in load_official().values() if official.sha256 == digest), None)
    return Header(
        kind=part.kind,
        architecture=part.architecture,
        config=part.config,
        domain=domain.name,
        alignment=own[chosen.alignment] if chosen.alignment else usual,
        licence=chosen.licence or licence or UNKNOWN_LICENCE,
        notes={"imported from": checkpoint.path.name, "source sha256": digest},
        shape=shape_values(shape),
    )


def _save_parts(
    folder: Path, parts: Mapping[str, Part], generator: Header, checkpoint: Checkpoint, chosen: Chosen
) -> None:
    digest = checkpoint.sha256()
    for kind, part in parts.items():
        if kind == "generator":
            continue
        if part.header is not None and part.header.code_space != generator.code_space:
            raise WeightsError(
                f"{checkpoint.path} belongs to generator {part.header.code_space[:12]}, and these weights have "
                f"{generator.code_space[:12]}"
            )
        header = dataclasses.replace(
            generator,
            kind=kind,
            architecture=part.architecture,
            config=part.config,
            licence=chosen.licence or (part.header.licence if part.header else generator.licence),
            generator=generator.fingerprint,
            fingerprint="",
            notes={"imported from": checkpoint.path.name, "source sha256": digest},
        )
        _save(folder / f"{kind}.safetensors", part.convert(), header, chosen.half)


def _save(path: Path, tensors: Mapping[str, Tensor], header: Header, half: bool) -> Header:
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    _require_finite(tensors, half)
    if header.kind == "generator":
        header = dataclasses.replace(header, generator="", fingerprint="")
    return save_tensors(path, tensors, header)


def _require_finite(tensors: Mapping[str, Tensor], half: bool) -> None:
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            reason = "that float16 cannot hold; import without --half" if half else "that are not finite numbers"
            raise WeightsError(f"{name} of the checkpoint holds values {reason}")


@contextlib.contextmanager
def locked_weights() -> Iterator[None]:
    """The user's weights for this process alone, once others are done; what killed processes left is removed."""
    import filelock

    root = user_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{root}.lock").acquire()
    except OSError as error:
        raise _no_room(root, error) from error
    with lock:
        for path in root.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        yield


def _temporary(name: str) -> Path:
    """A folder beside weights `name`; see `_TEMPORARY`."""
    return user_folder() / f".{name}-{secrets.token_hex(6)}"


def _no_room(root: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write weights to {root}: {error.strerror or error}; set STKIT_HOME elsewhere")


@contextlib.contextmanager
def _new_folder(name: str) -> Iterator[Path]:
    """A folder to fill, which becomes the weights folder `name` when the block ends well."""
    temporary = _temporary(name)
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(temporary.with_name(name))
    except OSError as error:
        raise _no_room(temporary.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_weights(name: str) -> Path:
    """Delete a user's weights folder; where it was. Raises UsageError for shipped weights, OutputError."""
    with locked_weights():
        found = check_name(name)
        if found is None:
            find_weights(name)  # says which names there are
            raise UsageError(f"'{name}' is a folder, not a name of weights in {user_folder()}; delete it yourself")
        grave = _temporary(name)
        try:
            found.folder.rename(grave)  # gone at once, even if deleting is interrupted
            shutil.rmtree(grave)
        except OSError as error:
            raise OutputError(f"cannot remove {found.folder}: {error.strerror or error}") from error
    return found.folder


def check_parts(found: Recognised) -> None:
    """Raise WeightsError where an import would: every part is converted, and what comes of it thrown away."""
    for part in found.parts:
        _require_finite(part.convert(), half=False)


def describe(checkpoint: Checkpoint, found: Recognised) -> dict[str, str]:
    """What a checkpoint is, line by line, for people."""
    lines = {"file": str(checkpoint.path), "container": checkpoint.container, "is": found.what, **found.facts}
    for part in found.parts:
        config = ", ".join(f"{key} {_short(value)}" for key, value in part.config.items())
        lines[part.kind] = f"{part.architecture}: {config}"
    for i, note in enumerate(found.notes):
        lines[f"note {i + 1}"] = note
    lines["names in it"] = ", ".join(checkpoint.names[:20]) + (", ..." if len(checkpoint.names) > 20 else "") or "none"
    lines["hostile"] = ", ".join(checkpoint.hostile[:20]) or "nothing"
    return lines


def _short(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


__all__ = [
    "ALIGNMENTS",
    "UNKNOWN_LICENCE",
    "Chosen",
    "check_name",
    "check_parts",
    "describe",
    "import_weights",
    "locked_weights",
    "new_header",
    "remove_weights",
    "require_same_synthesis",
]
