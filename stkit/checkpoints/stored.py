"""Tensors that still lie in their file: shapes are known at once, numbers are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stkit.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip

_MAX_DIMENSIONS = 16
_MAX_EMPTY = 2**40  # of the sizes of a tensor without numbers, those of 0 aside
_MAX_EXPANDED = 2**20  # numbers of a tensor that has some of its storage several times
_SHARED = 4

Read = Callable[[int, int], bytes | memoryview]
"""Gives `length` bytes from `offset` on."""


@dataclass(frozen=True, eq=False)
class Storage:
    """A flat run of `count` numbers, low byte first; tensors that share them have the same `read`."""

    dtype: str
    count: int
    read: Read

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, checked to lie inside it and to be no larger than it, or small."""

    storage: Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        plausible = (
            _plausible_shape(self.shape)
            and _are_sizes(self.stride)
            and _are_sizes((self.offset,))
            and len(self.shape) == len(self.stride)
            and self.storage.dtype in ITEM_SIZES
        )
        if plausible and self.count:
            plausible = self.count <= max(self.storage.count, _MAX_EXPANDED) and self._last < self.storage.count
        if not plausible:
            raise _misfit(self.shape)

    @property
    def dtype(self) -> str:
        """The name of torch's dtype."""
        return self.storage.dtype

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * ITEM_SIZES[self.dtype]

    @property
    def _last(self) -> int:
        """The place in the storage of its last number."""
        return self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    def load(self) -> Tensor:
        """The numbers, as a contiguous tensor on the CPU. Raises WeightsError when the file is damaged there."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        if not self.count:
            return torch.empty(self.shape, dtype=dtype)
        width = ITEM_SIZES[self.dtype]
        length = (self._last + 1 - self.offset) * width
        data = bytearray(self.storage.read(self.offset * width, length))
        if len(data) != length:
            raise WeightsError("the file ends inside a tensor")
        flat = torch.frombuffer(data, dtype=dtype)
        view = flat.as_strided(self.shape, self.stride)
        if self.count == len(flat) and view.is_contiguous():
            return flat.view(self.shape)  # not `view`: the steps of dimensions of size 1 may be any
        return view.clone(memory_format=torch.contiguous_format)


def contiguous(storage: Storage, shape: Sequence[Any], fortran: bool = False) -> StoredTensor:
    """The whole `storage` in the given shape, the last index running fastest, or the first with `fortran`."""
    if not _plausible_shape(shape) or math.prod(shape) != storage.count:
        raise _misfit(shape)
    sizes = tuple(shape)
    stride, steps = 1, []
    for size in sizes if fortran else reversed(sizes):
        steps.append(stride)
        stride *= size
    return StoredTensor(storage, sizes, tuple(steps if fortran else reversed(steps)))


def as_tensor(value: StoredTensor | Tensor) -> Tensor:
    """The numbers of a tensor, wherever it is; those of eight bits, with which torch does not compute, as float32.

    Raises WeightsError for what is none, and for complex numbers, which no model here has.
    """
    if isinstance(value, StoredTensor):
        if value.dtype.startswith("complex"):
            raise WeightsError("a tensor of complex numbers, which no model that stkit knows has")
        loaded = value.load()
        return loaded.float() if value.dtype.startswith("float8") else loaded
    if not hasattr(value, "detach"):
        raise WeightsError(f"a {type(value).__name__} where a tensor belongs")
    return value


def require_own_numbers(tensors: Iterable[StoredTensor | Tensor]) -> None:
    """Raise WeightsError when tensors that share numbers take much more room once each has its own."""
    stored = [value for value in tensors if isinstance(value, StoredTensor)]
    there = {id(value.storage.read): value.storage.size for value in stored}
    if sum(value.size for value in stored) > _SHARED * sum(there.values()) + 2**26:
        raise WeightsError(f"{len(stored)} tensors of it share the same numbers, which no checkpoint does")


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, (tuple, list))
        and len(values) <= _MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )


def _plausible_shape(shape: Any) -> bool:
    return _are_sizes(shape) and (0 not in shape or math.prod(size or 1 for size in shape) <= _MAX_EMPTY)


def _misfit(shape: Any) -> WeightsError:
    said = f" of shape {tuple(shape)}" if _are_sizes(shape) else ""
    return WeightsError(f"a tensor{said} that does not fit the data stored for it")


__all__ = ["ITEM_SIZES", "Storage", "StoredTensor", "as_tensor", "contiguous", "require_own_numbers"]
