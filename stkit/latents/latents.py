"""Latent codes and their file format: safetensors holding the codes and where they came from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pydantic
import safetensors
import safetensors.torch
import torch

from stkit.errors import LatentsError, UsageError, reason_of
from stkit.files import atomic_path, parse_json
from stkit.latents.table import load_table
from stkit.latents.tuning import Tuning, load_tuning, save_tuning
from stkit.options import LatentSpace, LayerRange, first_fault
from stkit.remote import as_path, local_copy
from stkit.weights import read_metadata

_FORMAT = "stkit-latents-1"


@dataclass(frozen=True)
class Provenance:
    """Where one row of codes came from.

    `transform` is the 2x3 affine matrix that takes crop pixel coordinates to coordinates of the
    upright photo (EXIF orientation applied), both with the centre of the top left pixel at (0, 0).
    """

    photo: str | None = None
    photo_sha256: str | None = None
    transform: tuple[tuple[float, ...], ...] | None = None
    weights: str | None = None
    inverter: str | None = None
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """What is to be known of one tensor by row besides the codes; `noun` is what people call it.

    `missing(latents, like)` is what the rows of latents without it count as, where other rows have `like`. A column
    that `is_edit` is an edit itself, and `unedited` leaves it out. One that is `history` tells of the rows that were
    there, and new rows made of several (`average`, `interpolate`) are without it. Other columns go where the codes go.
    """

    noun: str
    missing: Callable[[Latents, torch.Tensor], torch.Tensor]
    is_edit: bool = False
    history: bool = False


def _no_offsets(latents: Latents, like: torch.Tensor) -> torch.Tensor:
    return like.new_zeros(len(latents), *like.shape[1:])


_STYLE_OFFSETS = Column("style offsets (StyleSpace)", _no_offsets, is_edit=True)
_BASE = Column("codes before the edits", lambda latents, like: latents.codes, history=True)


@dataclass(frozen=True)
class Latents:
    """A batch of latent codes of one generator: a table of tensors, one row a subject, with their provenance.

    `codes` is float32, [B, num_ws, w_dim] in w_plus and [B, w_dim] in w; `generator` is the
    code space of the generator (`Weights.space`); `provenance` has one entry a row, or none at all. `style_offsets`,
    float32 [B, channels of all style layers], is added to the styles that the codes give (StyleSpace,
    Wu et al. 2021), in the order of `SynthesisNetwork.styles`; None is no offset. `base`, of the
    shape of `codes`, is what the codes were before the first edit; None when they are not edited.
    `tuning` is what PTI changed in the generator for them, for all rows.

    A further tensor by row is a field with a `Column`: rows, joining, averaging, interpolating and files go by those.
    """

    codes: torch.Tensor
    generator: str
    space: LatentSpace = LatentSpace.W_PLUS
    provenance: tuple[Provenance, ...] = ()
    style_offsets: torch.Tensor | None = field(default=None, metadata={"column": _STYLE_OFFSETS})
    base: torch.Tensor | None = field(default=None, metadata={"column": _BASE})
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        dims = {LatentSpace.W: 2, LatentSpace.W_PLUS: 3}[self.space]
        if self.codes.ndim != dims:
            raise LatentsError(f"{self.space} codes need {dims} dimensions, got {tuple(self.codes.shape)}")
        if self.provenance and len(self.provenance) != len(self.codes):
            raise LatentsError(f"{len(self.codes)} codes but {len(self.provenance)} provenance entries")
        for name, values in self.table.items():
            if not values.ndim or len(values) != len(self.codes):
                raise LatentsError(
                    f"{len(self.codes)} codes but {name.replace('_', ' ')} of shape {tuple(values.shape)}"
                )
        if self.style_offsets is not None and self.style_offsets.ndim != 2:
            raise LatentsError(f"{len(self.codes)} codes but style offsets of shape {tuple(self.style_offsets.shape)}")
        if self.base is not None and self.base.shape != self.codes.shape:
            raise LatentsError(f"codes {tuple(self.codes.shape)}, but before the edits {tuple(self.base.shape)}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def table(self) -> dict[str, torch.Tensor]:
        """The tensors by row that are there, by name: "codes" and those of `COLUMNS`."""
        values = {name: getattr(self, name) for name in ("codes", *COLUMNS)}
        return {name: value for name, value in values.items() if value is not None}

    def with_table(self, table: Mapping[str, torch.Tensor], provenance: tuple[Provenance, ...] = ()) -> Latents:
        """The rows of another table, of the same generator, space and tuning; columns that are not in it are gone."""
        columns: dict[str, Any] = {name: table.get(name) for name in COLUMNS}
        return dataclasses.replace(self, codes=table["codes"], provenance=provenance, **columns)

    def row(self, index: int) -> Latents:
        """The row `index` alone, with its provenance."""
        rows = slice(index, index + 1)
        return self.with_table({name: part[rows].clone() for name, part in self.table.items()}, self.provenance[rows])

    def to(self, device: torch.device | str) -> Latents:
        """The same rows on another device."""
        return self.with_table({name: part.to(device) for name, part in self.table.items()}, self.provenance)

    def broadcast(self, num_ws: int) -> Latents:
        """Codes of w as codes of w_plus, [B, num_ws, w_dim], which give the same images; others as they are."""
        if self.space is LatentSpace.W_PLUS:
            return self
        table = self.table
        for name in {"codes", "base"} & table.keys():
            table[name] = table[name][:, None].repeat(1, num_ws, 1)
        return dataclasses.replace(self, space=LatentSpace.W_PLUS, **table)  # type: ignore[arg-type]

    def replace(self, codes: torch.Tensor, edit: str | None = None, **columns: Any) -> Latents:
        """The same rows with other codes, and `columns` like `style_offsets`.

        `edit` is noted in each row's provenance, and the first codes are kept.
        """
        if edit is None:
            return dataclasses.replace(self, codes=codes, **columns)
        rows = self.provenance or (Provenance(),) * len(codes)
        provenance = tuple(dataclasses.replace(row, edits=(*row.edits, edit)) for row in rows)
        columns = {"base": self.codes if self.base is None else self.base, **columns}
        return dataclasses.replace(self, codes=codes, provenance=provenance, **columns)

    def unedited(self) -> Latents:
        """The same rows as they were before any edit."""
        rows = tuple(dataclasses.replace(row, edits=()) for row in self.provenance)
        kept = {name: value for name, value in self.table.items() if name == "codes" or not COLUMNS[name].is_edit}
        codes = kept.pop("base", self.codes)
        return self.with_table({**kept, "codes": codes}, rows)

    def require_generator(self, space: str, name: str) -> None:
        """Raise LatentsError unless these codes are of the code space of the generator `name`."""
        if self.generator != space:
            raise LatentsError(
                f"the latents belong to generator {self.generator[:12]}, but weights '{name}' have generator "
                f"{space[:12]}; choose the weights they were made with, or invert the photo again"
            )


COLUMNS: Mapping[str, Column] = {
    known.name: known.metadata["column"] for known in dataclasses.fields(Latents) if "column" in known.metadata
}
"""The tensors by row that latents may have beside their codes, by the names of their fields and in files."""


def join_latents(parts: Sequence[Latents]) -> Latents:
    """The rows of all `parts` in one batch. Raises LatentsError unless they share generator, tuning and space."""
    first = parts[0]
    if len({_tuned(part) for part in parts}) > 1:
        raise LatentsError("latents with generators tuned for each (PTI) cannot be joined; edit them one by one")
    if any((part.generator, part.space) != (first.generator, first.space) for part in parts):
        raise LatentsError("latents of several generators or spaces cannot be joined; invert the photos with one")
    rows = [row for part in parts for row in part.provenance or (Provenance(),) * len(part)]
    tables = [part.table for part in parts]
    table = {}
    for name in ("codes", *COLUMNS):
        like = next((one[name] for one in tables if name in one), None)
        if like is not None:
            both = zip(parts, tables, strict=True)
            table[name] = torch.cat(
                [one[name] if name in one else COLUMNS[name].missing(part, like) for part, one in both]
            )
    return first.with_table(table, tuple(rows))


def _tuned(latents: Latents) -> str | None:
    return latents.tuning.fingerprint if latents.tuning else None


def mix(first: Latents, second: Latents, amount: float = 0.5, layers: LayerRange | None = None) -> Latents:
    """`first` moved towards `second` by `amount` (0: first, 1: second), in all layers or in `layers` alone.

    With amount 1 and some layers this is style mixing (Karras et al., CVPR 2019). `second` has one row, or as many as
    `first`. Raises LatentsError when they do not fit, UsageError for layers of w codes or beyond the generator's.
    """
    second.require_generator(first.generator, "of the first codes")
    if _tuned(first) != _tuned(second):
        raise LatentsError("codes with generators tuned for each do not mix; invert again without tuning")
    if first.space is not second.space:
        raise LatentsError(f"{first.space} codes and {second.space} codes do not mix; invert one of the photos again")
    if len(second) not in (1, len(first)):
        raise LatentsError(f"{len(second)} codes do not mix with {len(first)}; give one, or as many")
    if layers and first.space is LatentSpace.W:
        raise UsageError("w codes have no layers; leave --layers out")
    for name in {**first.table, **second.table}:
        if name != "codes" and not COLUMNS[name].history:
            raise LatentsError(f"codes with {COLUMNS[name].noun} do not mix; mix those from before that edit")
    codes = first.codes.clone()
    rows = slice(None) if layers is None else slice(layers.first, layers.indices(codes.shape[1]).stop)
    codes[:, rows] = torch.lerp(codes[:, rows], second.codes.expand_as(codes)[:, rows], amount)
    return first.replace(codes, f"mix:{amount:g}" + (f":layers{layers}" if layers else ""))


def average(latents: Latents) -> Latents:
    """The mean of all rows, as one row. Raises LatentsError when there is none."""
    if not len(latents):
        raise LatentsError("there are no codes to average; give at least one")
    weights = {row.weights for row in latents.provenance}
    row = Provenance(weights=weights.pop() if len(weights) == 1 else None, edits=(f"average of {len(latents)}",))
    return latents.with_table({name: part.mean(0, keepdim=True) for name, part in _made_anew(latents)}, (row,))


def interpolate(keys: Latents, count: int) -> Latents:
    """`count` codes along the straight lines between the rows of `keys`, ends included, without provenance.

    Raises UsageError unless there are at least two keys and as many codes as keys.
    """
    if not 2 <= len(keys) <= count:
        raise UsageError(f"{count} frames do not reach over {len(keys)} codes; give two codes and as many frames")
    place = torch.linspace(0, len(keys) - 1, count)
    left = place.long().clamp(max=len(keys) - 2)

    def between(values: torch.Tensor) -> torch.Tensor:
        share = (place - left).reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[left], values[left + 1], share)

    return keys.with_table({name: between(part) for name, part in _made_anew(keys)})


def _made_anew(latents: Latents) -> list[tuple[str, torch.Tensor]]:
    """The columns that rows made of several have."""
    return [(name, part) for name, part in latents.table.items() if name == "codes" or not COLUMNS[name].history]


def beside_codes(latents: Latents) -> list[str]:
    """What decides the pictures of `latents` besides the codes, as people call it."""
    nouns = [COLUMNS[name].noun for name, _ in _made_anew(latents) if name != "codes"]
    return nouns + (["the generator tuned for them (PTI)"] if latents.tuning is not None else [])


def save_latents(latents: Latents, path: Path | str) -> None:
    """Write `latents` to a safetensors file, complete or not at all, and their tuning beside it. Raises OutputError."""
    path = as_path(path)
    save_latents_tuning(latents, path.parent)
    with atomic_path(path) as temporary:
        # Not save_file: its errors on a full disk are no OSError.
        temporary.write_bytes(encode_latents(latents))


def save_latents_tuning(latents: Latents, folder: Path) -> None:
    """Write the tuning of `latents`, if they have one, to the folder of their file. Raises OutputError."""
    if latents.tuning is not None:
        save_tuning(latents.tuning, folder)


def encode_latents(latents: Latents) -> bytes:
    """The bytes of a latent file; `save_latents_tuning` writes what belongs beside it."""
    header = {
        "format": _FORMAT,
        "space": str(latents.space),
        "generator": latents.generator,
        "provenance": json.dumps([dataclasses.asdict(row) for row in latents.provenance]),
    }
    if latents.tuning is not None:
        header["tuning"] = latents.tuning.fingerprint
    stored = {}
    for name, value in latents.table.items():  # copies: codes that an edit left alone are their own base
        stored[name] = value.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
    return _sorted_header(safetensors.torch.save(stored, metadata=header))


def _sorted_header(data: bytes) -> bytes:
    """The same file with its header's keys in order: safetensors writes them in another one each time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def load_latents(path: Path | str) -> Latents:
    """Read a file written by `save_latents`, or by `stkit invert --format parquet`.

    Raises LatentsError when it is anything else, MissingPackageError without pyarrow.
    """
    path = as_path(path)
    if path.name.endswith(".parquet"):
        return _of_table(path)
    if not path.name.endswith(".safetensors"):
        raise LatentsError(
            f"{path} is no latent file; `stkit invert PHOTO` writes PHOTO.latents.safetensors, and "
            "`stkit latents import` makes one of other programs' codes"
        )
    try:
        with local_copy(path) as local:
            header = read_metadata(local)
            if header.get("format") != _FORMAT:
                raise LatentsError(f"{path} is a safetensors file, but not latents written by stkit")
            said = _Header.model_validate(header)
            rows = _Rows.validate_python(parse_json(said.provenance))
            with safetensors.safe_open(local, framework="pt") as file:
                if unknown := set(file.keys()) - {"codes", *COLUMNS}:
                    raise LatentsError(
                        f"{path} holds {', '.join(sorted(unknown))[:80]}, which this version of stkit cannot use"
                    )
                table = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if "codes" not in table:
            raise LatentsError(f"{path} holds no codes; invert the photo again")
        for tensor in table.values():
            if tensor.dtype != torch.float32 or not torch.isfinite(tensor).all():
                raise LatentsError(f"{path} holds codes that are not finite float32; invert the photo again")
        if not table["codes"].numel():
            raise LatentsError(f"{path} holds no codes but an empty table; invert the photo again")
        tuning = load_tuning(path.parent, said.tuning, said.generator) if said.tuning else None
        provenance = tuple(_provenance(row) for row in rows)
        return Latents(
            generator=said.generator, space=LatentSpace(said.space), provenance=provenance, tuning=tuning, **table
        )
    except LatentsError as error:
        raise error if str(path) in str(error) else LatentsError(f"cannot read latents from {path}: {error}") from None
    except pydantic.ValidationError as error:
        raise LatentsError(
            f"cannot read latents from {path}: of its header, {first_fault(error)}; invert the photo again"
        ) from error
    except (OSError, safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise LatentsError(f"cannot read latents from {path}: {reason_of(error)}; invert the photo again") from error


def _of_table(path: Path) -> Latents:
    facts, parts = load_table(path)
    try:
        codes = torch.cat([torch.from_numpy(part.codes) for part in parts])
        rows = tuple(provenance_of(row) for part in parts for row in part.provenance)
        return Latents(codes, str(facts["generator"]), LatentSpace(facts["space"]), rows)
    except (LatentsError, RuntimeError, ValueError) as error:
        raise LatentsError(f"cannot read codes from {path}: {reason_of(error)}; invert the photos again") from error


class _Header(pydantic.BaseModel):
    """What a latent file says beside its tensors."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    format: str
    space: Literal["w", "w_plus"]
    generator: Annotated[str, pydantic.Field(max_length=200)]
    provenance: str
    tuning: Annotated[str, pydantic.Field(max_length=200)] | None = None


_Three = Annotated[list[float], pydantic.Field(min_length=3, max_length=3)]


def _text(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= 10_000):
        raise ValueError("should be text")
    return value


def _edit(value: Any) -> str:
    return _text(value) or ""


# Not pydantic's own text: names of files may have bytes that are no letters.
_Text = Annotated[str | None, pydantic.PlainValidator(_text)]


class _Row(pydantic.BaseModel):
    """`Provenance` as it stands in a file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    photo: _Text
    photo_sha256: _Text
    transform: Annotated[list[_Three], pydantic.Field(min_length=2, max_length=2)] | None
    weights: _Text
    inverter: _Text
    edits: Annotated[list[Annotated[str, pydantic.PlainValidator(_edit)]], pydantic.Field(max_length=10_000)]


_Rows = pydantic.TypeAdapter(list[_Row])


def provenance_of(row: Any) -> Provenance:
    """A row of provenance as JSON holds it. Raises ValueError."""
    return _provenance(_Row.model_validate(row))


def _provenance(row: _Row) -> Provenance:
    matrix = None if row.transform is None else tuple(map(tuple, row.transform))
    return Provenance(
        row.photo, row.photo_sha256, cast("Any", matrix), row.weights, row.inverter, edits=tuple(row.edits)
    )


__all__ = [
    "COLUMNS",
    "Column",
    "Latents",
    "Provenance",
    "average",
    "beside_codes",
    "encode_latents",
    "interpolate",
    "join_latents",
    "load_latents",
    "mix",
    "provenance_of",
    "save_latents",
    "save_latents_tuning",
]
