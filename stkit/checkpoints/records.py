"""Inert records as data: what an allow-list knows becomes dictionaries, lists and stored tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from stkit.checkpoints.stored import ITEM_SIZES, Storage, StoredTensor, contiguous
from stkit.checkpoints.unpickle import Name, Persistent, Record
from stkit.errors import WeightsError

T = TypeVar("T")

Storages = Callable[[str, str, int], Storage]
"""The storage of a key, a dtype and a count of numbers."""

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip
_NUMPY = {"f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16",
          "i1": "int8", "u1": "uint8", "b1": "bool"}  # fmt: skip


def plain(value: Any, storages: Storages | None = None, nested: Callable[[bytes], Any] | None = None) -> Any:
    """`value` of a pickle as data; records that the allow-list does not know stay, with data inside.

    `storages` finds torch's storages, `nested` reads a torch file inside the pickle. Raises WeightsError.
    """
    try:
        return _Reader(storages, nested).data(value)
    except RecursionError:
        raise WeightsError("nested deeper than any checkpoint") from None
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise WeightsError(f"damaged: {str(error)[:120]}") from None


class _Reader:
    """Each object is visited once, however often it is referred to, itself included."""

    def __init__(self, storages: Storages | None, nested: Callable[[bytes], Any] | None) -> None:
        self.storages = storages
        self.nested = nested
        self.known: dict[int, tuple[Any, Any]] = {}

    def data(self, value: Any) -> Any:
        if not isinstance(value, (dict, list, tuple, Record, Persistent, Name)):
            return value
        if id(value) in self.known:
            return self.known[id(value)][1]
        return self.remember(value, self.new(value))

    def remember(self, value: Any, result: T) -> T:
        """Note what `value` became. It is kept as well: the id of an object that is gone is soon another's."""
        self.known[id(value)] = (value, result)
        return result

    def new(self, value: Any) -> Any:
        if isinstance(value, list):
            values = self.remember(value, list[Any]())
            values += [self.data(item) for item in value]
            return values
        if isinstance(value, dict):
            return self.dictionary(value, value.items())
        if isinstance(value, tuple):
            return tuple(self.data(item) for item in value)
        if isinstance(value, Persistent):
            return self.persistent(value)
        return self.record(value) if isinstance(value, Record) else value

    def dictionary(self, value: Any, pairs: Any) -> dict[Any, Any]:
        result = self.remember(value, dict[Any, Any]())
        for key, item in pairs:
            result[key] = self.data(item)
        return result

    def record(self, value: Record) -> Any:
        module, _, name = value.name.rpartition(".")
        match module, name:
            case "collections", "OrderedDict":
                pairs = value.args[0] if value.args else []
                return self.dictionary(value, [*dict(pairs).items(), *value.entries.items()])
            case "collections", "defaultdict":
                return self.dictionary(value, value.entries.items())
            case "argparse", "Namespace":
                return self.dictionary(value, (value.state or {}).items())
            case "builtins" | "__builtin__", "set" | "frozenset" | "list":
                return [*(self.data(value.args[0]) if value.args else ()), *map(self.data, value.items)]
            case "_codecs", "encode":
                return str(value.args[0]).encode("latin1")
            case "torch", "Size":
                return tuple(self.data(value.args[0]))
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return self.data(value.args[0])
            case "torch._tensor", "_rebuild_from_type_v2":
                return self.data(Record(value.args[0], value.args[2]))
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3":
                return self.tensor(value)
            case "torch.storage", "_load_from_bytes" if self.nested:
                return self.nested(self.data(value.args[0]))
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return self.array(value)
            case "numpy.core.numeric" | "numpy._core.numeric", "_frombuffer":
                data, dtype, shape, order = map(self.data, value.args)
                return self.numbers(value, bytes(data), dtype, shape, order == "F")
            case "numpy", "dtype":
                return self.dtype(value)
            case "numpy.core.multiarray" | "numpy._core.multiarray", "scalar":
                return self.scalar(value)
        return self.inert(value)

    def inert(self, value: Record) -> Record:
        result = self.remember(value, Record(value.maker))
        result.args = tuple(self.data(item) for item in value.args)
        result.state = self.data(value.state)
        result.items = [self.data(item) for item in value.items]
        result.entries = {key: self.data(item) for key, item in value.entries.items()}
        return result

    def persistent(self, value: Persistent) -> Any:
        match value.key:
            case ("storage", Name() as kind, str() as key, str(), int() as count, *view) if self.storages:
                if kind.name not in _STORAGES or count < 0 or any(x is not None for x in view):
                    raise WeightsError(f"a storage of kind {kind}, which stkit does not read")
                return self.storages(key, _STORAGES[kind.name], count)
        raise WeightsError("a reference to something outside the file")

    def tensor(self, value: Record) -> Any:
        storage, offset, shape, stride, *more = map(self.data, value.args)
        if not isinstance(storage, Storage):
            return self.inert(value)
        if value.name.endswith("_v3"):
            dtype = more.pop(2)
            dtype = dtype.name if isinstance(dtype, Name) else ""
            if dtype not in ITEM_SIZES or storage.dtype != "uint8":
                raise WeightsError("a tensor of a type that stkit does not read")
            storage = Storage(dtype, storage.count // ITEM_SIZES[dtype], storage.read)
        if len(more) > 2 and any((more[2] or {}).values()):
            raise WeightsError("a tensor whose numbers are stored negated; save its .resolve_neg() instead")
        return StoredTensor(storage, tuple(shape), tuple(stride), offset)

    def array(self, value: Record) -> Any:
        """A numpy array: a state of (version, shape, dtype, is Fortran order, bytes)."""
        *_, shape, dtype, fortran, data = self.data(value.state) or (None,) * 4
        if isinstance(data, str):
            data = data.encode("latin1")  # written by Python 2
        if not isinstance(data, bytes):
            return self.inert(value)
        return self.numbers(value, data, dtype, shape, bool(fortran))

    def numbers(self, value: Record, data: bytes, dtype: Any, shape: Any, fortran: bool) -> Any:
        if not isinstance(dtype, str) or dtype not in ITEM_SIZES or len(data) % ITEM_SIZES[dtype]:
            return self.inert(value)
        return contiguous(Storage(dtype, len(data) // ITEM_SIZES[dtype], lambda: data), tuple(shape), fortran)

    def dtype(self, value: Record) -> Any:
        """The name of torch's dtype, or the record itself for types that are no plain numbers."""
        code = str(value.args[0]).lstrip("<|=")
        order = self.data(value.state)
        swapped = isinstance(order, tuple) and order[1] == (">" if sys.byteorder == "little" else "<")
        return self.inert(value) if code not in _NUMPY or swapped else _NUMPY[code]

    def scalar(self, value: Record) -> Any:
        dtype, *data = map(self.data, value.args)
        raw = data[0] if data else b""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(dtype, str) or not isinstance(raw, bytes) or len(raw) != ITEM_SIZES[dtype]:
            return self.inert(value)
        return contiguous(Storage(dtype, 1, lambda: raw), ()).load().item()


__all__ = ["Storages", "plain"]
