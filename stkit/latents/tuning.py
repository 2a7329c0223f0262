"""A generator tuned to a photo (PTI), kept as its difference from the weights' own, beside the latents.

Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", ACM TOG 2022. Latents that
carry a `Tuning` still belong to the generator of the weights, as directions do; only the pictures are
made with the tuned one. Other generators of the same codes do not take it: it is a difference from one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from stkit.errors import LatentsError, StkitError, WeightsError
from stkit.files import safe_name
from stkit.tensors import load_tensors, save_tensors, tensors_fingerprint
from stkit.weights import Header, Weights, load_header

if TYPE_CHECKING:
    from stkit.models.generators import Generator

    GeneratorT = TypeVar("GeneratorT", bound=Generator)

_KIND = "tuning"
_SCALE = ":scale"


@dataclass(frozen=True, eq=False)
class Tuning:
    """Differences of the tensors that were changed, by their names in the generator.

    Those of weights are int8, in units of `NAME:scale` (float32, one an output channel); others are float16.
    `header.generator` is the fingerprint of the generator they are added to.
    """

    header: Header
    deltas: Mapping[str, Tensor]

    @property
    def fingerprint(self) -> str:
        """The sha256 of the differences."""
        return self.header.fingerprint

    @property
    def filename(self) -> str:
        """What its file is called, beside the latents."""
        return tuning_filename(self.fingerprint)


def tuning_between(base: nn.Module, tuned: nn.Module, weights: Weights) -> Tuning:
    """What turns `base`, the generator of `weights`, into `tuned`. Raises StkitError when that is not finite."""
    deltas = {}
    mine = base.state_dict()
    for name, value in tuned.state_dict().items():
        if not torch.equal(value, mine[name]):
            delta = (value - mine[name]).float().cpu()
            if not torch.isfinite(delta.half()).all():
                raise StkitError(f"tuning diverged in {name}; lower its learning rate")
            if delta.ndim < 2:
                deltas[name] = delta.half()
            else:
                scale = delta.abs().amax(tuple(range(1, delta.ndim)), keepdim=True) / 127
                deltas[name + _SCALE] = scale
                deltas[name] = (delta / scale.clamp(min=1e-12)).round().to(torch.int8)
    header = weights.part_header(_KIND, weights.header.architecture, weights.header.config)
    return Tuning(dataclasses.replace(header, fingerprint=tensors_fingerprint(deltas)), deltas)


def tuned_generator(base: GeneratorT, tuning: Tuning) -> GeneratorT:
    """A copy of `base` with `tuning` added. Raises LatentsError when it does not fit."""
    generator = copy.deepcopy(base)
    state = generator.state_dict()
    for name, delta in tuning.deltas.items():
        if name.endswith(_SCALE):
            continue
        if name not in state or state[name].shape != delta.shape:
            raise LatentsError(f"{tuning.filename} does not fit this generator in {name}; invert the photo again")
        scale = tuning.deltas.get(name + _SCALE)
        state[name] += (delta if scale is None else delta * scale).to(state[name])
    return generator


def require_base(tuning: Tuning, weights: Weights) -> None:
    """Raise LatentsError unless `tuning` is a difference from the generator of `weights` itself."""
    if tuning.header.generator != weights.fingerprint:
        raise LatentsError(
            f"the latents need generator {tuning.header.generator[:12]}, which was tuned for them, but weights "
            f"'{weights.name}' have generator {weights.fingerprint[:12]}; choose the weights they were made with, or "
            "invert the photo again"
        )


def tuning_filename(fingerprint: str) -> str:
    """The name of the file of a tuning: it follows from its fingerprint, so that all latents share one file."""
    return f"tuning-{safe_name(fingerprint[:16])}.safetensors"


def save_tuning(tuning: Tuning, folder: Path) -> Path:
    """Write `tuning` to `folder`, unless it is there already; its path. Raises OutputError."""
    path = folder / tuning.filename
    if not _is_written(path, tuning.fingerprint):
        save_tensors(path, tuning.deltas, tuning.header)
    return path


def load_tuning(folder: Path, fingerprint: str, generator: str) -> Tuning:
    """The tuning of that fingerprint in `folder`, for codes of the space `generator`. Raises LatentsError."""
    path = folder / tuning_filename(fingerprint)
    if not path.is_file():
        raise LatentsError(
            f"these latents need the generator tuned for them, and {path} is not there; copy it beside the latents, "
            "or invert the photo again"
        )
    try:
        header, deltas = load_tensors(path)
    except WeightsError as error:
        raise LatentsError(f"cannot read the tuned generator: {error}; or invert the photo again") from error
    if header.kind != _KIND or header.fingerprint != fingerprint:
        raise LatentsError(f"{path} is not the tuning of these latents; invert the photo again")
    if header.code_space != generator:
        raise LatentsError(
            f"{path} belongs to generator {header.code_space[:12]}, but the latents to {generator[:12]}; "
            "invert the photo again"
        )
    return Tuning(header, deltas)


def _is_written(path: Path, fingerprint: str) -> bool:
    try:
        return path.is_file() and load_header(path).fingerprint == fingerprint
    except WeightsError:
        return False


__all__ = [
    "Tuning",
    "load_tuning",
    "require_base",
    "save_tuning",
    "tuned_generator",
    "tuning_between",
    "tuning_filename",
]
