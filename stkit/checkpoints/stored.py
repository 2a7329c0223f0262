"""Tensors that still lie in their file: shapes are known at once, numbers are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stkit.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Storage:
    """A flat run of numbers: `read()` gives its bytes, low first."""

    dtype: str
    count: int
    read: Callable[[], bytes | memoryview]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, checked to lie inside it and to be no larger than it."""

    storage: Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        plausible = (
            all(type(x) is int and 0 <= x < 2**48 for x in numbers)
            and len(self.shape) == len(self.stride) <= 16
            and self.storage.dtype in ITEM_SIZES
        )
        if plausible and self.count:
            last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
            plausible = self.count <= self.storage.count and last < self.storage.count
        if not plausible:
            raise WeightsError(f"a tensor of shape {str(self.shape)[:60]} that does not fit the data stored for it")

    @property
    def dtype(self) -> str:
        """The name of torch's dtype."""
        return self.storage.dtype

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def load(self) -> Tensor:
        """The numbers, as a contiguous tensor on the CPU. Raises WeightsError when the file is damaged there."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        if not self.count:
            return torch.empty(self.shape, dtype=dtype)
        data = bytearray(self.storage.read())
        if len(data) != self.storage.count * ITEM_SIZES[self.dtype]:
            raise WeightsError("the file ends inside a tensor")
        flat = torch.frombuffer(data, dtype=dtype)
        view = flat.as_strided(self.shape, self.stride, self.offset)
        if self.count == self.storage.count and view.is_contiguous():
            return flat.view(self.shape)  # not `view`: the steps of dimensions of size 1 may be any
        return view.clone(memory_format=torch.contiguous_format)


def contiguous(storage: Storage, shape: Sequence[Any], fortran: bool = False) -> StoredTensor:
    """The whole `storage` in the given shape, the last index running fastest, or the first with `fortran`."""
    sizes = tuple(shape)
    if not all(type(size) is int and 0 <= size < 2**48 for size in sizes) or math.prod(sizes) != storage.count:
        raise WeightsError(f"a tensor of shape {str(sizes)[:60]} that does not fit the data stored for it")
    stride, steps = 1, []
    for size in sizes if fortran else reversed(sizes):
        steps.append(stride)
        stride *= size
    return StoredTensor(storage, sizes, tuple(steps if fortran else reversed(steps)))


def as_tensor(value: StoredTensor | Tensor) -> Tensor:
    """The numbers of a tensor, wherever it is."""
    return value.load() if isinstance(value, StoredTensor) else value


__all__ = ["ITEM_SIZES", "Storage", "StoredTensor", "as_tensor", "contiguous"]
