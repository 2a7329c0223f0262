"""MobileStyleGAN as the pair of OpenVINO networks that its author published (wheel `random-face`).

The graphs are walked from their results back: every operation has to be the expected one, and every floating-point
constant to be used, with its shape. The conversion gives the same bits on any machine, since the fingerprint of its
tensors is what inverters, directions and latents are stamped with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stkit.checkpoints.layout import Part, Recognised, Shape, difference, state_shapes
from stkit.checkpoints.openvino import Graph
from stkit.checkpoints.reading import OPENVINO, Checkpoint
from stkit.checkpoints.stored import StoredTensor
from stkit.errors import UsageError, WeightsError
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.shapes import MobileStyleGANConfig

_NAMES = ("MappingNetwork", "SynthesisNetwork")
_LR_MUL = 0.01  # of the mapping network's layers
_SLOPE = 0.2
_DEEPEST = 8  # layers or blocks; a graph that bites its tail has more
_SAMPLES = 10_000  # of which w_avg is the mean

_HAAR = {"low": (math.sqrt(0.5), math.sqrt(0.5)), "high": (math.sqrt(0.5), -math.sqrt(0.5))}

Numbers = dict[str, StoredTensor]


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """The pair, if the file is one. Raises WeightsError for half a pair, and for networks that differ from it."""
    if checkpoint.container != OPENVINO or not set(_NAMES) & set(checkpoint.content):
        return None
    graphs: Mapping[str, Graph] = checkpoint.content
    missing = [name for name in _NAMES if name not in graphs]
    if missing:
        raise WeightsError(f"there is no {missing[0]}.xml with its .bin beside it; a generator takes both networks")
    numbers = {**_read_mapping(graphs[_NAMES[0]]), **_read_synthesis(graphs[_NAMES[1]])}
    config, shapes = _shape_of(numbers)
    part = Part("generator", MobileStyleGAN.architecture, dataclasses.asdict(config), lambda: _convert(numbers, shapes))
    return Recognised(
        family="mobile-stylegan",
        what="MobileStyleGAN generator as OpenVINO IR",
        parts=(part,),
        facts={"resolution": f"{config.img_resolution} px", "rows of w_plus": str(config.num_ws)},
        notes=("its teacher's terms hold for a student too: those of StyleGAN2-FFHQ are for non-commercial research",),
    )


class _Walk:
    """Steps back through a graph; what isn't as expected raises WeightsError."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._left = {
            name for name, layer in graph.layers.items() if layer.value and layer.value.dtype.startswith(("fl", "bf"))
        }

    def start(self) -> str:
        """What the graph gives."""
        results = [layer for layer in self.graph.layers.values() if layer.kind == "Result"]
        if len(results) != 1 or len(results[0].inputs) != 1:
            raise WeightsError(f"{self.graph.name[:40]} has {len(results)} results; no network of MobileStyleGAN's")
        return results[0].inputs[0]

    def back(self, name: str, kind: str, count: int | None = 2, **attributes: str) -> tuple[str, ...]:
        """The inputs of `name`, which is a `kind` with `count` inputs and those attributes."""
        layer = self.graph.layers[name]
        said = {key: layer.attributes.get(key) for key in attributes}
        if layer.kind != kind or (count is not None and len(layer.inputs) != count) or said != attributes:
            told = ", ".join(f"{key} {value}" for key, value in attributes.items())
            raise WeightsError(
                f"{self.graph.name[:40]} has a {layer.kind[:30]} ({name[:60]}) where MobileStyleGAN has a {kind}"
                f"{' with ' + told if told else ''}"
            )
        return layer.inputs

    def take(self, name: str) -> StoredTensor:
        """The numbers of a constant, float32."""
        value = self.graph.layers[name].value
        if value is None or value.dtype != "float32":
            raise WeightsError(f"{self.graph.name[:40]} has no float32 constant {name[:60]}")
        self._left.discard(name)
        return value

    def check(self, name: str, wanted: float | tuple[float, ...], what: str) -> None:
        """Whether a constant is `wanted`, or a row of it."""
        value = self.take(name)
        pattern = np.atleast_1d(np.asarray(wanted, np.float32))
        if not 0 < value.count <= 2**16 or value.count % pattern.size:
            raise WeightsError(f"{what} of {self.graph.name[:40]} has the shape {value.shape}")
        if not np.allclose(value.load().numpy().reshape(-1, pattern.size), pattern, rtol=1e-5, atol=0):
            raise WeightsError(f"{what} of {self.graph.name[:40]} is not {wanted}; stkit cannot run such a generator")

    def check_integers(self, name: str, wanted: list[int]) -> None:
        """Whether a constant is a list of integers."""
        value = self.graph.layers[name].value
        if value is None or value.count != len(wanted) or value.load().flatten().tolist() != wanted:
            raise WeightsError(f"{self.graph.name[:40]} splits its channels otherwise than MobileStyleGAN")

    def require_depth(self, depth: int) -> None:
        """Whether a walk may go on after `depth` layers or blocks."""
        if depth > _DEEPEST:
            raise WeightsError(f"{self.graph.name[:40]} has more than {_DEEPEST} layers, or goes in a circle")

    def finish(self) -> None:
        """Whether all numbers were taken."""
        if self._left:
            names = ", ".join(name[:60] for name in sorted(self._left)[:5])
            raise WeightsError(f"{self.graph.name[:40]} has {len(self._left)} constants too many: {names}")


def _read_mapping(graph: Graph) -> Numbers:
    walk = _Walk(graph)
    layers: list[tuple[StoredTensor, StoredTensor]] = []
    name = walk.start()
    while graph.layers[walk.back(name, "Multiply")[0]].kind == "PReLU":
        active, gain = walk.back(name, "Multiply")
        walk.check(gain, math.sqrt(2), "the activation's gain")
        total, slope = walk.back(active, "PReLU")
        walk.check(slope, _SLOPE, "the activation's slope")
        product, reshaped = walk.back(total, "Add")
        bias, _ = walk.back(reshaped, "Reshape")
        name, weight = walk.back(product, "MatMul", transpose_a="false", transpose_b="true")
        layers.insert(0, (walk.take(weight), walk.take(bias)))
        walk.require_depth(len(layers))
    z, normed = walk.back(name, "Multiply")
    walk.back(z, "Parameter", 0)
    one, inverse = walk.back(normed, "Multiply")
    root, minus_one = walk.back(inverse, "Power")
    shifted, half = walk.back(root, "Power")
    mean, epsilon = walk.back(shifted, "Add")
    squared, _ = walk.back(mean, "ReduceMean")
    same, two = walk.back(squared, "Power")
    if same != z:
        raise WeightsError(f"{graph.name[:40]} begins otherwise than MobileStyleGAN's")
    for constant, wanted in ((one, 1), (minus_one, -1), (half, 0.5), (epsilon, 1e-8), (two, 2)):
        walk.check(constant, wanted, "the pixel norm")
    walk.finish()
    names = ("weight", "bias")
    return {f"mapping.layers.{i}.{k}": v for i, pair in enumerate(layers) for k, v in zip(names, pair, strict=True)}


def _read_synthesis(graph: Graph) -> Numbers:
    walk = _Walk(graph)
    image = walk.start()
    biased = _haar(walk, image)
    convolved, bias = walk.back(biased, "Add")
    modulated, weight = walk.back(convolved, "Convolution", strides="1, 1", pads_begin="0, 0")
    name, last = _modulated(walk, modulated, 1)
    found = {"to_image": {**last, "weight": walk.take(weight), "bias": walk.take(bias)}}
    blocks: list[dict[str, Numbers]] = []
    while (taken := _activated(walk, name)) and graph.layers[taken[0]].kind == "GroupConvolution":
        name, second = _separable(walk, *taken)
        name, first = _separable(walk, *_activated(walk, name))
        name, up = _modulated(walk, _haar(walk, name), None)
        affine = {key.replace("affine", "up_affine"): value for key, value in up.items()}
        blocks.insert(0, {"": affine, "conv1.": first, "conv2.": second})
        walk.require_depth(len(blocks))
    modulated, numbers = taken
    name, style = _modulated(walk, modulated, 9)
    tiled, _ = walk.back(name, "Tile")
    constant, _ = walk.back(tiled, "Broadcast")
    found["first"] = {**numbers, **style, "const": walk.take(constant)}
    walk.finish()
    for i, block in enumerate(blocks):
        found[f"blocks.{i}"] = {f"{key}{name}": value for key, part in block.items() for name, value in part.items()}
    return {f"synthesis.{layer}.{name}": value for layer, part in found.items() for name, value in part.items()}


def _activated(walk: _Walk, name: str) -> tuple[str, Numbers]:
    """Leaky ReLU, bias, noise, convolution: what is convolved, and the numbers."""
    total, slope = walk.back(name, "PReLU")
    walk.check(slope, _SLOPE, "the activation's slope")
    noised, bias = walk.back(total, "Add")
    convolved, noise = walk.back(noised, "Add")
    dense = walk.graph.layers[convolved].inputs[1:2] and walk.take(walk.graph.layers[convolved].inputs[1])
    pads = "1, 1" if dense and dense.shape[2:] == (3, 3) else "0, 0"
    before, weight = walk.back(convolved, "Convolution", strides="1, 1", pads_begin=pads)
    return before, {"weight": walk.take(weight), "noise_const": walk.take(noise), "bias": walk.take(bias)}


def _separable(walk: _Walk, before: str, numbers: Numbers) -> tuple[str, Numbers]:
    """A depthwise convolution and the style before it, after `_activated`."""
    modulated, depthwise = walk.back(before, "GroupConvolution", strides="1, 1", pads_begin="1, 1")
    name, style = _modulated(walk, modulated, 9)
    numbers["pointwise"] = numbers.pop("weight")
    return name, {**numbers, **style, "depthwise": walk.take(depthwise)}


def _modulated(walk: _Walk, name: str, taps: int | None) -> tuple[str, Numbers]:
    """Features times a style, scaled by 1 / sqrt(channels x `taps`) unless that is None: the features, the affine."""
    style, features = walk.back(name, "Multiply")
    scale = None
    if taps is not None:
        style, scale = walk.back(style, "Multiply")
    flat, _ = walk.back(style, "Reshape")
    product, bias = walk.back(flat, "Add")
    w, weight = walk.back(product, "MatMul", transpose_a="false", transpose_b="true")
    walk.back(w, "Parameter", 0)
    found = {"affine.weight": walk.take(weight), "affine.bias": walk.take(bias)}
    if scale is not None and taps is not None:
        walk.check(scale, 1 / math.sqrt(found["affine.weight"].shape[0] * taps), "the scale of a style")
    return features, found


def _haar(walk: _Walk, name: str) -> str:
    """An inverse Haar transform: what is transformed. Low bands first, then details: over rows, columns, both."""
    layers = walk.graph.layers

    def up(name: str, strides: str, band: str) -> str:
        before, weight = walk.back(name, "GroupConvolutionBackpropData", strides=strides, pads_begin="0, 0")
        walk.check(weight, _HAAR[band], "a Haar filter")
        return before

    columns = [up(part, "1, 2", band) for part, band in zip(walk.back(name, "Add"), _HAAR, strict=True)]
    rows = [(part, band) for column in columns for part, band in zip(walk.back(column, "Add"), _HAAR, strict=True)]
    low, *details = [up(part, "2, 1", band) for part, band in rows]
    split = [walk.back(part, "Squeeze")[0] for part in details]
    reshaped, _, parts = walk.back(split[0], "VariadicSplit", 3)
    walk.check_integers(parts, [1, 1, 1])
    before, _, sizes = walk.back(low, "VariadicSplit", 3)
    channels = walk.take(layers[rows[0][0]].inputs[1]).shape[0]
    walk.check_integers(sizes, [channels, 3 * channels])
    ends = [layers[rows[0][0]].origins[0], layers[reshaped].origins[0], *(layers[part].origins[0] for part in details)]
    if ends != [0, 1, 0, 1, 2] or len(set(split)) != 1 or walk.back(reshaped, "Reshape")[0] != low:
        raise WeightsError(f"{walk.graph.name[:40]} has its Haar bands in another order than MobileStyleGAN")
    return before


def _shape_of(numbers: Numbers) -> tuple[MobileStyleGANConfig, dict[str, Shape]]:
    """The configuration that the numbers' shapes tell, and the shapes of our tensors, which theirs are found to be."""
    blocks = sum(name.endswith("up_affine.bias") for name in numbers)
    layers = sum(name.startswith("mapping.") for name in numbers) // 2
    first = numbers["synthesis.first.const"].shape
    widths = [_at(first, 1), *(_at(numbers[f"synthesis.blocks.{i}.conv2.pointwise"].shape, 0) for i in range(blocks))]
    z_dim, w_dim = (_at(numbers[f"mapping.layers.{i}.weight"].shape, 1 - bool(i)) for i in (0, layers - 1))
    try:
        config = MobileStyleGANConfig(z_dim, w_dim, layers, tuple(widths))
    except UsageError as error:
        raise WeightsError(f"a generator that stkit cannot run: {error}") from None
    shapes = state_shapes(lambda: MobileStyleGAN(config))
    derived = {"w_avg", *(name for name in shapes if name.endswith("noise_strength"))}
    expected = {name: _plain(shape) for name, shape in shapes.items() if name not in derived}
    found = {name: _plain(value.shape) for name, value in numbers.items()}
    if found != expected:
        raise WeightsError(f"no MobileStyleGAN that stkit knows: {difference(expected, found)}")
    return config, shapes


def _at(shape: Shape, index: int) -> int:
    return shape[index] if index < len(shape) else 0


def _plain(shape: Shape) -> Shape:
    """Without the dimensions of size 1, which the two sides put in different places."""
    return tuple(size for size in shape if size != 1)


@np.errstate(all="ignore")  # numbers that are none are refused where the file is written
def _convert(numbers: Numbers, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Our tensors, float32. Elementwise float32 and exactly rounded sums only, so that all machines agree."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in numbers.items():
        array = value.load().numpy().reshape(shapes[name])
        if name.startswith("mapping."):  # stored with the learning rate's multiplier in it
            gain = _LR_MUL / math.sqrt(array.shape[1]) if array.ndim == 2 else _LR_MUL
            array = array / np.float32(gain)
        elif name.endswith("noise_const"):  # stored with its strength in it
            squares = (array.astype(np.float64) ** 2).ravel().tolist()
            strength = np.float32(math.sqrt(math.fsum(squares) / len(squares)))
            found[name.replace("noise_const", "noise_strength")] = np.asarray(strength)
            array = array / strength if strength else array
        found[name] = array
    found["w_avg"] = _mean_w(found)
    return {name: torch.from_numpy(np.array(found[name], np.float32)) for name in shapes}


def _mean_w(found: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The mean w [w_dim] of 10,000 z, float64 rounded once: far more digits than machines differ in."""
    depth = sum(name.startswith("mapping.") for name in found) // 2
    x = np.random.Generator(np.random.PCG64(0)).standard_normal((_SAMPLES, found["mapping.layers.0.weight"].shape[1]))
    x /= np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    for i in range(depth):
        weight = found[f"mapping.layers.{i}.weight"].astype(np.float64) * (_LR_MUL / math.sqrt(x.shape[1]))
        x = x @ weight.T + found[f"mapping.layers.{i}.bias"].astype(np.float64) * _LR_MUL
        x = np.where(x < 0, _SLOPE * x, x) * math.sqrt(2)
    if not np.isfinite(x).all():
        return np.full(x.shape[1], np.nan)
    return np.array([math.fsum(column) / _SAMPLES for column in x.T.tolist()], np.float64)


__all__ = ["recognise"]
