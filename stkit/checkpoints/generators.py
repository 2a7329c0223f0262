"""What all families' StyleGAN2 generators share once their tensors have our names."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.checkpoints.layout import Part, Shape, State, size_of, state_shapes
from stkit.checkpoints.stored import StoredTensor, as_tensor
from stkit.errors import UsageError, WeightsError
from stkit.models.mapping import MappingNetwork
from stkit.models.ops import FIR_TAPS
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2 import StyleGAN2
from stkit.moved import renamed

_FIR = torch.outer(torch.tensor(FIR_TAPS), torch.tensor(FIR_TAPS)) / 64


def generator_shapes(config: StyleGAN2Config) -> dict[str, Shape]:
    """Names and shapes of the tensors of our generator."""
    return state_shapes(lambda: StyleGAN2(config))


@dataclass(frozen=True)
class Places:
    """Where a format keeps what a configuration follows from: a tensor's name, and the first or only dimension of it.

    Of `const`, the constant that the network starts from, the channels, with height and width behind them; of `image`,
    the first ToRGB, the channels of the picture; of `last` those of the last block; of `label`, which a generator
    without classes lacks, their number.
    """

    z_dim: tuple[str, int]
    w_dim: tuple[str, int]
    const: tuple[str, int]
    image: tuple[str, int]
    last: tuple[str, int]
    label: tuple[str, int] = ("", 0)


def config_of(state: State, places: Places, resolution: int, mapping_layers: int, what: str) -> StyleGAN2Config:
    """The configuration of the generator that `what` names, from its tensors' shapes. Raises WeightsError."""

    def size(place: tuple[str, int]) -> int:
        return size_of(state, *place, what)

    name, widest = places.const
    classes = size(places.label) if places.label[0] in state else 0
    sizes = size(places.z_dim), size(places.w_dim)
    last, first = size(places.last), size(places.const)
    _require_usual(state[name].shape[widest + 1 :], size(places.image), classes)
    try:
        return StyleGAN2Config(resolution, *sizes, mapping_layers, last * resolution, first)
    except UsageError as error:
        raise WeightsError(f"a generator that stkit cannot run: {error}") from None


def _require_usual(const: Sequence[int], channels: int, classes: int) -> None:
    """Raise WeightsError for generators whose kind stkit does not run.

    `const` [height, width] is the size of the constant that the network starts from, `channels` are the picture's, and
    `classes` the numbers of a label that the mapping network takes.
    """
    reason = None
    if classes:
        reason = f"it is class-conditional, with {classes} classes"
    elif channels != 3:
        kind = {1: "grey", 4: "RGB with alpha"}.get(channels, "not RGB")
        reason = f"its pictures have {channels} channels ({kind})"
    elif tuple(const) != (4, 4):
        reason = f"its pictures are not square: it starts from {const[0]} x {const[1]} rows and columns and not 4 x 4"
    if reason:
        raise WeightsError(f"a generator that stkit does not run: {reason}")


def generator_part(config: StyleGAN2Config, convert: Callable[[], dict[str, Tensor]]) -> Part:
    """The generator as a part; `convert` gives its tensors, `w_avg` perhaps not among them."""
    return Part("generator", "stylegan2", dataclasses.asdict(config), lambda: complete(config, convert()))


def complete(config: StyleGAN2Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with what a checkpoint may lack: `w_avg`, the mean over 10,000 z, and noise drawn from seed 0."""
    shapes = generator_shapes(config)
    random = torch.Generator().manual_seed(0)
    for name, shape in shapes.items():
        if name.endswith("noise_const") and name not in tensors:
            tensors[name] = torch.randn(shape, generator=random)
    if "w_avg" not in tensors:
        mapping = MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers)
        start = "mapping."
        mapping.load_state_dict({k.removeprefix(start): v.float() for k, v in tensors.items() if k.startswith(start)})
        z = torch.randn(10_000, config.z_dim, generator=random)
        with torch.no_grad():
            tensors["w_avg"] = mapping(z).mean(0)
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise WeightsError(
                f"its {name} has the shape {tuple(tensors[name].shape)}, and the generator needs {shape}"
            )
    return {name: tensors[name] for name in shapes}


def mean_latent(value: StoredTensor | Tensor) -> Tensor:
    """A checkpoint's average latent, [w_dim] or the same row for each style, as [w_dim]."""
    average = as_tensor(value)
    if not average.ndim or not average.numel() or not average.is_floating_point():
        raise WeightsError(f"its average latent has the shape {tuple(average.shape)}, not that of codes like (512,)")
    return average.reshape(-1, average.shape[-1])[0].clone()


def check_filters(state: State, keys: Mapping[str, float]) -> None:
    """Raise WeightsError unless the resampling filters under `keys` are 1-3-3-1 with the given gains."""
    for key, gain in keys.items():
        if tuple(state[key].shape) != (4, 4) or not torch.allclose(as_tensor(state[key]).float(), _FIR * gain):
            raise WeightsError(f"the resampling filter {key} is not the 1-3-3-1 one; stkit cannot run such a generator")


def fir_filter(gain: float) -> Tensor:
    """The 1-3-3-1 filter [4, 4] as checkpoints store it, its sum being `gain`."""
    return _FIR * gain


__getattr__ = functools.partial(renamed, __name__)

__all__ = [
    "Places",
    "check_filters",
    "complete",
    "config_of",
    "fir_filter",
    "generator_part",
    "generator_shapes",
    "mean_latent",
]
