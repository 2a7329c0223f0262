"""Inert records as data: what an allow-list knows becomes dictionaries, lists and stored tensors.

Each object is looked at once, however often it is referred to, and what is copied counts against the file's `Budget`.
Nothing of a file is ever printed, hashed or compared whole: nested lists that share their parts would take forever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.stored import ITEM_SIZES, Storage, StoredTensor, contiguous
from stkit.checkpoints.unpickle import Name, Persistent, Record, plain_key
from stkit.errors import WeightsError, reason_of

T = TypeVar("T")

Storages = Callable[[str, str, int], Storage]
"""The storage of a key, a dtype and a count of numbers."""

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip
_NUMPY = {"f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16",
          "i1": "int8", "u1": "uint8", "b1": "bool", "u2": "uint16", "u4": "uint32", "u8": "uint64", "c8": "complex64",
          "c16": "complex128"}  # fmt: skip
_MAX_ARGUMENTS = 20  # of what is known here


def plain(
    value: Any, budget: Budget, storages: Storages | None = None, nested: Callable[[bytes], Any] | None = None
) -> Any:
    """`value` of a pickle as data; records that the allow-list does not know stay, with data inside.

    `storages` finds torch's storages, `nested` reads a torch file inside the pickle. Raises WeightsError.
    """
    try:
        return _Reader(budget, storages, nested).data(value)
    except RecursionError:
        raise WeightsError("nested deeper than any checkpoint") from None
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise WeightsError(f"damaged: {reason_of(error)[:120]}") from None


class _Reader:
    def __init__(self, budget: Budget, storages: Storages | None, nested: Callable[[bytes], Any] | None) -> None:
        self.budget = budget
        self.storages = storages
        self.nested = nested
        self.known: dict[int, tuple[Any, Any]] = {}

    def data(self, value: Any) -> Any:
        if not isinstance(value, (dict, list, tuple, Record, Persistent, Name)):
            return value
        if id(value) in self.known:
            return self.known[id(value)][1]
        self.budget.step()
        return self.remember(value, self.new(value))

    def remember(self, value: Any, result: T) -> T:
        """Note what `value` became. It is kept as well: the id of an object that is gone is soon another's."""
        self.known[id(value)] = (value, result)
        return result

    def all(self, values: Iterable[Any]) -> list[Any]:
        """`values` as data, in a new list."""
        if not isinstance(values, (list, tuple)):
            raise ValueError(f"a {type(values).__name__} where a list belongs")
        self.budget.step(len(values))
        return [self.data(item) for item in values]

    def new(self, value: Any) -> Any:
        if isinstance(value, list):
            values = self.remember(value, list[Any]())
            values += self.all(value)
            return values
        if isinstance(value, dict):
            return self.dictionary(value, value)
        if isinstance(value, tuple):
            return tuple(self.all(value))
        if isinstance(value, Persistent):
            return self.persistent(value)
        return self.record(value) if isinstance(value, Record) else value

    def dictionary(self, value: Any, *parts: Any) -> dict[Any, Any]:
        """What `value` becomes: the entries of all `parts`, which are dictionaries or lists of pairs."""
        result = self.remember(value, dict[Any, Any]())
        for part in parts:
            if not isinstance(part, (dict, list, tuple)):
                raise ValueError(f"a {type(part).__name__} where a dictionary belongs")
            self.budget.step(len(part))
            for pair in part.items() if isinstance(part, dict) else part:
                if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                    raise ValueError("entries that are not pairs of key and value")
                result[plain_key(pair[0])] = self.data(pair[1])
        return result

    def record(self, value: Record) -> Any:
        known = self.known_record(value) if len(value.args) <= _MAX_ARGUMENTS else None
        return self.inert(value) if known is None else known

    def known_record(self, value: Record) -> Any:
        """What the allow-list makes of `value`; None when it does not know it."""
        module, _, name = value.name.rpartition(".")
        match module, name:
            case "collections", "OrderedDict":
                return self.dictionary(value, *value.args[:1], value.entries)
            case "collections", "defaultdict":
                return self.dictionary(value, value.entries)
            case "argparse", "Namespace":
                return self.dictionary(value, value.state or {})
            case "builtins" | "__builtin__", "set" | "frozenset" | "list":
                return [*(self.all(self.data(value.args[0])) if value.args else ()), *self.all(value.items)]
            case "_codecs", "encode":
                return self.encoded(value.args[0])
            case "torch", "Size":
                return tuple(self.all(self.data(value.args[0])))
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return self.data(value.args[0])
            case "torch._tensor", "_rebuild_from_type_v2":
                if not isinstance(value.args[2], tuple):
                    raise ValueError("arguments that are not a tuple")
                return self.data(Record(value.args[0], value.args[2]))
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3":
                return self.tensor(value)
            case "torch.storage", "_load_from_bytes" if self.nested:
                return self.nested(self.data(value.args[0]))
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return self.array(value)
            case "numpy.core.numeric" | "numpy._core.numeric", "_frombuffer":
                data, dtype, shape, order, *axes = map(self.data, value.args)
                numbers = self.numbers(data, dtype, shape, order == "F")
                return numbers if axes in ([], [None]) else _permuted(numbers, axes[0])
            case "numpy", "dtype":
                return self.dtype(value)
            case "numpy.core.multiarray" | "numpy._core.multiarray", "scalar":
                return self.scalar(value)
        return None

    def inert(self, value: Record) -> Record:
        result = self.remember(value, Record(value.maker))
        result.args = tuple(self.all(value.args))
        result.state = self.data(value.state)
        result.items = self.all(value.items)
        self.budget.step(len(value.entries))
        result.entries = {key: self.data(item) for key, item in value.entries.items()}
        return result

    def persistent(self, value: Persistent) -> Any:
        match value.key:
            case ("storage", Name() as kind, str() as key, str(), int() as count, *view) if self.storages:
                if kind.name not in _STORAGES or count < 0 or any(x is not None for x in view[:2]):
                    raise WeightsError(f"a storage of kind {kind}, which stkit does not read")
                return self.storages(key, _STORAGES[kind.name], count)
        raise WeightsError("a reference to something outside the file")

    def tensor(self, value: Record) -> Any:
        storage, offset, shape, stride, *more = map(self.data, value.args)
        if not isinstance(storage, Storage):
            return None
        if value.name.endswith("_v3"):
            dtype = more.pop(2)
            dtype = dtype.name if isinstance(dtype, Name) else ""
            if dtype not in ITEM_SIZES or storage.dtype != "uint8":
                raise WeightsError("a tensor of a type that stkit does not read")
            storage = Storage(dtype, storage.count // ITEM_SIZES[dtype], storage.read)
        flags = more[2] if len(more) > 2 else None
        self.budget.step(len(flags or ()))
        if flags and (not isinstance(flags, dict) or any(flags.values())):
            raise WeightsError("a tensor stored negated or conjugated; save its .resolve_neg().resolve_conj() instead")
        return StoredTensor(storage, shape, stride, offset)

    def encoded(self, text: Any) -> bytes:
        """The bytes that Python 2, or a pickle of an old protocol, has written as text."""
        if not isinstance(text, str):
            raise ValueError(f"a {type(text).__name__} where text belongs")
        self.budget.copy(len(text))
        return text.encode("latin1")

    def array(self, value: Record) -> Any:
        """A numpy array: a state of (version, shape, dtype, is Fortran order, bytes)."""
        state = self.data(value.state)
        if not isinstance(state, tuple) or not 4 <= len(state) <= 5:
            return None
        shape, dtype, fortran, data = state[-4:]
        return self.numbers(self.encoded(data) if isinstance(data, str) else data, dtype, shape, bool(fortran))

    def numbers(self, data: Any, dtype: Any, shape: Any, fortran: bool) -> Any:
        if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, str):
            return None
        if dtype not in ITEM_SIZES or len(data) % ITEM_SIZES[dtype]:
            return None
        view = memoryview(data)
        storage = Storage(dtype, len(data) // ITEM_SIZES[dtype], lambda at, length: view[at : at + length])
        return contiguous(storage, shape, fortran)

    def dtype(self, value: Record) -> Any:
        """The name of torch's dtype; None for types that are no plain numbers."""
        code, order = value.args[0] if value.args else None, self.data(value.state)
        swapped = isinstance(order, tuple) and order[1:2] == (">" if sys.byteorder == "little" else "<",)
        return None if not isinstance(code, str) or swapped else _NUMPY.get(code[:9].lstrip("<|="))

    def scalar(self, value: Record) -> Any:
        dtype, *data = map(self.data, value.args)
        raw = data[0] if data else b""
        raw = self.encoded(raw) if isinstance(raw, str) else raw
        if not isinstance(dtype, str) or not isinstance(raw, bytes) or len(raw) != ITEM_SIZES.get(dtype):
            return None
        return contiguous(Storage(dtype, 1, lambda at, length: raw[at : at + length]), ()).load().item()


def _permuted(numbers: StoredTensor | None, axes: Any) -> StoredTensor | None:
    """As NumPy 2.5 has it, of arrays that run neither as in C nor as in Fortran."""
    if numbers is None or not isinstance(axes, tuple) or not all(type(axis) is int for axis in axes):
        return None
    if sorted(axes) != list(range(len(numbers.shape))):
        return None
    shape, stride = (tuple(whole[axis] for axis in axes) for whole in (numbers.shape, numbers.stride))
    return StoredTensor(numbers.storage, shape, stride)


__all__ = ["Storages", "plain"]
