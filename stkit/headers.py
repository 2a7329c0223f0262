"""What a weights file says of itself: its header, checked key by key. Reading one needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import safetensors

from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import WeightsError, reason_of
from stkit.files import parse_json, require_file, safe_name
from stkit.options import first_fault
from stkit.remote import RemotePath, local_copy

_FORMAT = "stkit-weights-1"
_MAX_HEADER = 32 * 2**20  # bytes of a safetensors file's header


@dataclass(frozen=True)
class Header:
    """What a weights file says of itself.

    `fingerprint` is the sha256 of its own tensors, `generator` the fingerprint of the generator it
    belongs to (its own, for a generator); `config` builds the model class of `architecture`. A generator's
    `shape` has its z_dim, w_dim, num_ws and img_resolution. `space` is there for generators that take another
    one's codes, and for their parts: that one's `code_space`.
    """

    kind: str
    architecture: str
    config: Mapping[str, Any]
    domain: str
    alignment: AlignmentTemplate
    licence: str
    generator: str = ""
    fingerprint: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, int] = field(default_factory=dict)
    space: str = ""

    @property
    def code_space(self) -> str:
        """Which codes it speaks of: those of the generator of that fingerprint, by default its own."""
        return self.space or self.generator

    def __post_init__(self) -> None:
        if self.kind == "generator" and not self.shape:  # a file from before headers had shapes: a StyleGAN2
            size = int(self.config["img_resolution"])
            shape = {"num_ws": 2 * (size.bit_length() - 2), "img_resolution": size}
            shape.update((name, int(self.config[name])) for name in ("z_dim", "w_dim"))
            object.__setattr__(self, "shape", shape)


def _is_name(text: str) -> str:
    if text != safe_name(text):
        raise ValueError("should be a name, of which the names of files can be made")
    return text


_Name = Annotated[str, pydantic.AfterValidator(_is_name)]
_Text = Annotated[str, pydantic.Field(max_length=10_000)]
_Size = Annotated[int, pydantic.Field(ge=1, le=16384)]


class _Model(pydantic.BaseModel):
    """Of what a file says: types as they are, no more keys than these, numbers that are finite."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Alignment(_Model):
    kind: Literal["points", "ffhq", "box"]
    size: Annotated[int, pydantic.Field(ge=0, le=65536)]
    points: Annotated[list[Annotated[list[float], pydantic.Field(min_length=2, max_length=2)]],
                      pydantic.Field(max_length=1000)]  # fmt: skip


class _HeaderModel(_Model):
    """`Header` as it stands in a file."""

    kind: _Name
    architecture: _Name
    config: dict[str, Any]
    domain: _Text
    alignment: _Alignment
    licence: _Text
    generator: _Text = ""
    fingerprint: _Text = ""
    notes: dict[str, Any] = {}
    shape: dict[str, _Size] = {}
    space: _Text = ""


class _Shape(_Model):
    """`Header.shape` of a generator."""

    z_dim: _Size
    w_dim: _Size
    num_ws: Annotated[int, pydantic.Field(ge=1, le=1000)]
    img_resolution: _Size


def header_metadata(header: Header) -> dict[str, str]:
    """`header` as it stands in a safetensors file beside the tensors."""
    said = {**asdict(header), "alignment": header.alignment.to_dict()}
    if not header.space:
        del said["space"]
    text = json.dumps(said, sort_keys=True)
    return {"format": _FORMAT, "stkit": text, "sha256": _text_sha256(text)}


def read_metadata(path: Path) -> dict[str, str]:
    """What stands in the header of a safetensors file beside its tensors.

    Raises OSError, ValueError or SafetensorError for a file that is damaged, or none.
    """
    require_file(path)
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8 or struct.unpack("<Q", start)[0] > _MAX_HEADER:
        raise ValueError("it is no safetensors file, or its header is huge")
    with local_copy(path) as local, safetensors.safe_open(local, framework="numpy") as opened:
        return dict(opened.metadata() or {})


def is_foreign(path: Path) -> bool:
    """Whether a safetensors file of this machine is another program's; a damaged one is not, reading it says better."""
    if path.suffix != ".safetensors" or isinstance(path, RemotePath):
        return False
    try:
        return not read_metadata(path).get("format", "").startswith("stkit-")
    except (OSError, ValueError, safetensors.SafetensorError):
        return False


def load_header(path: Path) -> Header:
    """The header of a weights file. Raises WeightsError when it is none."""
    try:
        metadata = read_metadata(path)
        if metadata.get("format") != _FORMAT:
            raise WeightsError(f"{path} is a safetensors file, but not weights written by stkit")
        if metadata.get("sha256", _text_sha256(metadata["stkit"])) != _text_sha256(metadata["stkit"]):
            raise WeightsError(f"{path} is damaged: what it says of itself was changed; install or copy it again")
        data = _HeaderModel.model_validate(parse_json(metadata["stkit"])).model_dump()
        header = Header(**{**data, "alignment": AlignmentTemplate.from_dict(data["alignment"])})
        if header.kind == "generator":
            _Shape.model_validate(dict(header.shape))
        return header
    except pydantic.ValidationError as error:
        raise WeightsError(f"cannot read weights from {path}: of its header, {first_fault(error)}") from error
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"cannot read weights from {path}: {reason_of(error)}") from error


def note_number(notes: Mapping[str, Any], *keys: str) -> float | None:
    """The number under `keys` in the notes of a header; None where there is none."""
    value: Any = notes
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


__all__ = ["Header", "header_metadata", "is_foreign", "load_header", "note_number", "read_metadata"]
