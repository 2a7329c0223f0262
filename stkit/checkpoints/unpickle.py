"""Pickles read without running anything in them.

A pickle is a program for a stack machine whose instructions import and call what the file names. This machine has
no instruction that does: a global stays a `Name`, and whatever would be called, built or instantiated becomes an
inert `Record` of its name, arguments and state. `stkit.checkpoints.reading` then turns the records that an
allow-list knows (tensors, arrays, dictionaries) into data; all others stay as they are.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from stkit.checkpoints.budget import Budget
from stkit.errors import WeightsError, reason_of

_MAX_NAMES = 10_000
_MAX_NAME = 500
_MAX_BITS = 1_000
_MAX_KEY = 10_000
_MAX_INTEGER = 2**16  # as a key: larger ones can be chosen to meet in a dictionary, each after walking past all others
_MAX_GAP = 1_000  # in the numbers of the memo, which picklers count up


@dataclass(frozen=True)
class Name:
    """A global that a pickle names; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False, slots=True)
class Record:
    """An object that unpickling would have made by calling `maker` with `args`: nothing but a note of it.

    `state` is what it would have been given afterwards, `items` and `entries` what would have been
    appended to it or set in it.
    """

    maker: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What would have been called, like `argparse.Namespace`."""
        return str(self.maker) if isinstance(self.maker, Name) else "something that is not a name"


@dataclass(frozen=True, eq=False)
class Persistent:
    """A reference to something outside the pickle: in torch's files a storage."""

    key: Any


class _OddKey:
    """Stands for a dictionary key that is not a plain scalar."""

    def __str__(self) -> str:
        return "no name"


def plain_key(key: Any) -> Any:
    """`key` of a dictionary, or an `_OddKey` for what can make looking things up take forever.

    Nested tuples are hashed again each time, and large numbers can be chosen by where their hashes lead.
    """
    if isinstance(key, (str, bytes)):
        usual = len(key) <= _MAX_KEY
    else:
        usual = key is None or (isinstance(key, int) and abs(key) < _MAX_INTEGER)
    return key if usual else _OddKey()


def read_pickle(file: IO[bytes], names: set[Name], budget: Budget) -> Any:
    """The object of one pickle in `file`, which is left behind its end; what it names is added to `names`.

    Raises WeightsError for anything that is not a complete, plausible pickle, and when `budget` is spent.
    """
    try:
        return _Machine(names, budget).run(pickletools.genops(file))
    except WeightsError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError, AttributeError) as error:
        reason = reason_of(error)[:120] or type(error).__name__
        raise WeightsError(f"damaged pickle: {reason}; download or copy it again") from None


class _Machine:
    def __init__(self, names: set[Name], budget: Budget) -> None:
        self.names = names
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, operations: Iterator[tuple[Any, Any, int | None]]) -> Any:
        for operation, argument, _ in operations:
            self.budget.step()
            if operation.name == "STOP":
                return self.pop()
            if isinstance(argument, str):
                self.budget.copy(sys.getsizeof(argument) - len(argument))  # four bytes a letter, if one is rare
            elif isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
                raise WeightsError(f"pickle with an integer of {argument.bit_length():,} bits")
            self.step(operation.name, argument)
        raise ValueError("no end")

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise ValueError("nothing left between marks")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def step(self, operation: str, argument: Any) -> None:
        push = self.stack.append
        match operation:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(self.stack))
            case "POP":
                self.pop_to_mark() if self.marks and self.marks[-1] == len(self.stack) else self.stack.pop()
            case "POP_MARK":
                self.pop_to_mark()
            case "DUP":
                push(self.stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                if not 0 <= argument <= len(self.memo) + _MAX_GAP:
                    raise ValueError("numbers of the memo that no pickler gives")
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "NONE":
                push(None)
            case "NEWTRUE":
                push(True)
            case "NEWFALSE":
                push(False)
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "EMPTY_SET":
                push(Record(Name("builtins", "set")))
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(reversed([self.pop() for _ in range(int(operation[-1]))])))
            case "TUPLE":
                push(tuple(self.pop_to_mark()))
            case "LIST":
                push(self.pop_to_mark())
            case "FROZENSET":
                push(Record(Name("builtins", "frozenset"), (self.pop_to_mark(),)))
            case "DICT":
                target: dict[Any, Any] = {}
                self.set_items(target, self.pop_to_mark())
                push(target)
            case "APPEND":
                value = self.pop()
                self.append(self.stack[-1], [value])
            case "APPENDS" | "ADDITEMS":
                values = self.pop_to_mark()
                self.append(self.stack[-1], values)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.set_items(self.stack[-1], [key, value])
            case "SETITEMS":
                values = self.pop_to_mark()
                self.set_items(self.stack[-1], values)
            case "PERSID" | "BINPERSID":
                push(Persistent(argument if operation == "PERSID" else self.pop()))
            case (
                "GLOBAL" | "STACK_GLOBAL" | "INST" | "OBJ" | "REDUCE" | "NEWOBJ" | "NEWOBJ_EX" | "BUILD"
            ):  # all that would import or call something
                self.record(operation, argument)
            case "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise WeightsError(f"pickle with the instruction {operation}, which no checkpoint needs")
            case _:
                if argument is None:
                    raise ValueError(f"unknown instruction {operation}")
                push(argument)

    def record(self, operation: str, argument: Any) -> None:
        push = self.stack.append
        match operation:
            case "GLOBAL":
                push(self.name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                push(self.name(module, name))
            case "INST":
                push(Record(self.name(*argument.split(" ", 1)), tuple(self.pop_to_mark())))
            case "OBJ":
                maker, *args = self.pop_to_mark()
                push(Record(maker, tuple(args)))
            case "NEWOBJ_EX":
                keywords, args, maker = self.pop(), self.pop(), self.pop()
                if not isinstance(args, tuple) or not isinstance(keywords, dict):
                    raise ValueError("arguments that are not a tuple and a dictionary")
                self.budget.step(len(keywords))
                push(Record(maker, args, entries=dict(keywords)))
            case "REDUCE" | "NEWOBJ":
                args, maker = self.pop(), self.pop()
                if not isinstance(args, tuple):
                    raise ValueError("arguments that are not a tuple")
                push(Record(maker, args))
            case "BUILD":
                state = self.pop()
                if not isinstance(self.stack[-1], Record):
                    raise ValueError("a state for something that is not an object")
                self.stack[-1].state = state

    def name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global whose name is not text")
        if len(module) + len(name) > _MAX_NAME:
            raise WeightsError(f"pickle that names a class in more than {_MAX_NAME} letters")
        found = Name(module, name)
        self.names.add(found)
        if len(self.names) > _MAX_NAMES:
            raise WeightsError(f"pickle that names more than {_MAX_NAMES:,} classes, which no checkpoint needs")
        return found

    def append(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):
            target = target.items
        if not isinstance(target, list):
            raise ValueError("items for something that is not a list")
        target.extend(values)

    def set_items(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Record):
            target = target.entries
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("entries for something that is not a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value


__all__ = ["Name", "Persistent", "Record", "plain_key", "read_pickle"]
