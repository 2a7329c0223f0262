"""MobileStyleGAN networks written as the OpenVINO IR of its author's wheel, of any size."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import torch

from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.shapes import MobileStyleGANConfig

CONFIG = MobileStyleGANConfig(16, 16, 2, (16, 16, 8))
_TYPES = {"float32": "f32", "float16": "f16", "int64": "i64"}
Out = tuple[int, int]
"""A layer's number and which of its ports."""


class Writer:
    """Layers, edges and numbers of one network."""

    def __init__(self, name: str) -> None:
        self.name, self.layers, self.edges, self.numbers = name, list[str](), list[str](), bytearray()

    def add(self, kind: str, *inputs: Out, name: str = "", outputs: int = 1, **data: object) -> Out:
        number = len(self.layers)
        told = " ".join(f"{key}={quoteattr(str(value))}" for key, value in data.items())
        title = quoteattr(name or f"{kind}_{number}")
        self.layers.append(f'<layer id="{number}" name={title} type="{kind}"><data {told}/></layer>')
        for port, (origin, output) in enumerate(inputs):
            edge = f'<edge from-layer="{origin}" from-port="{output}" to-layer="{number}" to-port="{port}"/>'
            self.edges.append(edge)
        return number, len(inputs)

    def const(self, value: object, name: str = "", dtype: str = "float32") -> Out:
        array = np.asarray(value, dtype)
        offset = len(self.numbers)
        self.numbers += array.tobytes()
        shape = ", ".join(map(str, array.shape))
        kind = _TYPES[dtype]
        return self.add("Const", name=name, element_type=kind, shape=shape, offset=offset, size=array.nbytes)

    def integers(self, *values: int) -> Out:
        return self.const(values, dtype="int64")

    def xml(self) -> str:
        body = f"<layers>{''.join(self.layers)}</layers><edges>{''.join(self.edges)}</edges>"
        return f'<?xml version="1.0" ?>\n<net name="{self.name}" version="10">{body}<meta_data/></net>'


def make_student(config: MobileStyleGANConfig = CONFIG) -> MobileStyleGAN:
    """A generator with random numbers in all places, as a conversion leaves them: noise maps of unit power."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MobileStyleGAN(config).eval().requires_grad_(False)
        for name, value in made.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                value.add_(0.1 * torch.randn(value.shape).abs())
        for name, noise in made.named_buffers():
            if name.endswith("noise_const"):
                noise.div_(noise.square().mean().sqrt())
    return made


def write_mapping(generator: MobileStyleGAN, slope: float = 0.2, epsilon: float = 1e-8) -> Writer:
    to = Writer("MappingNetwork")
    z = to.add("Parameter", shape="1, 16", element_type="f32")
    mean = to.add("ReduceMean", to.add("Power", z, to.const([[2]])), to.integers(1))
    root = to.add("Power", to.add("Add", mean, to.const([[epsilon]])), to.const([[0.5]]))
    x = to.add("Multiply", z, to.add("Multiply", to.const([[1]]), to.add("Power", root, to.const([[-1]]))))
    layers: Any = generator.mapping.layers
    for layer in layers:
        weight = layer.weight * (0.01 / math.sqrt(layer.weight.shape[1]))
        product = to.add("MatMul", x, to.const(weight), transpose_a="false", transpose_b="true")
        total = to.add("Add", product, to.add("Reshape", to.const(layer.bias * 0.01), to.integers(1, -1)))
        x = to.add("Multiply", to.add("PReLU", total, to.const([slope])), to.const([[math.sqrt(2)]]))
    to.add("Result", x)
    return to


def write_synthesis(
    generator: MobileStyleGAN, scale: float = 1.0, root: float = math.sqrt(0.5), swap: bool = False, extra: bool = False
) -> Writer:
    """`swap` has the details of the last Haar transform in another order."""
    to = Writer("SynthesisNetwork")
    model: Any = generator.synthesis
    style = to.add("Parameter", shape="1, 16", element_type="f32")

    def modulated(x: Out, affine: torch.nn.Linear, taps: int | None) -> Out:
        product = to.add("MatMul", style, to.const(affine.weight), transpose_a="false", transpose_b="true")
        s = to.add("Reshape", to.add("Add", product, to.const(affine.bias[None])), to.integers(-1, 1, 1, 1))
        if taps:
            s = to.add("Multiply", s, to.const(np.full((1, 1, 1, 1), scale / math.sqrt(affine.out_features * taps))))
        return to.add("Multiply", s, x)

    def activated(x: Out, weight: torch.Tensor, layer: Any) -> Out:
        pads = "1, 1" if weight.shape[-1] == 3 else "0, 0"
        x = to.add("Convolution", x, to.const(weight), strides="1, 1", pads_begin=pads)
        x = to.add("Add", x, to.const((layer.noise_const * layer.noise_strength)[None, None]))
        x = to.add("Add", x, to.const(layer.bias[None, :, None, None]))
        return to.add("PReLU", x, to.const([0.2]))

    def haar(x: Out, channels: int, order: tuple[int, ...] = (0, 1, 2)) -> Out:
        number, port = to.add("VariadicSplit", x, to.integers(1), to.integers(channels, 3 * channels))
        reshaped = to.add("Reshape", (number, port + 1), to.integers(0))
        split, first = to.add("VariadicSplit", reshaped, to.integers(2), to.integers(1, 1, 1))
        bands = [(number, port), *(to.add("Squeeze", (split, first + i), to.integers(2)) for i in order)]

        def up(x: Out, shape: tuple[int, ...], sign: int) -> Out:
            filters = np.tile(np.array([root, sign * root], np.float32).reshape(shape), (channels, 1, 1, 1, 1))
            strides = f"{shape[-2]}, {shape[-1]}"
            return to.add("GroupConvolutionBackpropData", x, to.const(filters), strides=strides, pads_begin="0, 0")

        tall, wide = (1, 1, 1, 2, 1), (1, 1, 1, 1, 2)
        sums = [to.add("Add", up(bands[i], tall, 1), up(bands[i + 1], tall, -1)) for i in (0, 2)]
        return to.add("Add", up(sums[0], wide, 1), up(sums[1], wide, -1))

    first = model.first
    constant = to.add("Broadcast", to.const(first.const[None], "m.input.input"), to.integers(1))
    x = modulated(to.add("Tile", constant, to.integers(1)), first.affine, 9)
    x = activated(x, first.weight, first)
    for block in model.blocks:
        x = haar(modulated(x, block.up_affine, None), block.up_affine.out_features // 4)
        for layer in (block.conv1, block.conv2):
            x = modulated(x, layer.affine, 9)
            x = to.add("GroupConvolution", x, to.const(layer.depthwise[:, None]), strides="1, 1", pads_begin="1, 1")
            x = activated(x, layer.pointwise, layer)
    image = model.to_image
    x = modulated(x, image.affine, 1)
    x = to.add("Convolution", x, to.const(image.weight), strides="1, 1", pads_begin="0, 0")
    x = haar(to.add("Add", x, to.const(image.bias[None, :, None, None])), 3, (1, 0, 2) if swap else (0, 1, 2))
    to.add("Result", x)
    if extra:
        to.const([1.0], "more")
    return to


def write_folder(folder: Path, *networks: Writer) -> Path:
    """The networks as files in `folder`."""
    folder.mkdir(exist_ok=True)
    for network in networks:
        (folder / f"{network.name}.xml").write_text(network.xml())
        (folder / f"{network.name}.bin").write_bytes(network.numbers)
    return folder


def write_wheel(path: Path, *networks: Writer) -> Path:
    """The networks in a wheel."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for network in networks:
            archive.writestr(f"random_face/data/{network.name}.xml", network.xml())
            archive.writestr(f"random_face/data/{network.name}.bin", bytes(network.numbers))
    return path
