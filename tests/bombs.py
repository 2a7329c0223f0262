"""Files of a few kilobytes that ask for hours or for terabytes, made from code; and what reading them takes."""

from __future__ import annotations

import functools
import json
import pickle
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stkit.errors import StkitError

LEGACY = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
"""What comes before the object in a file of torch's format before 1.6."""


def utf8(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def call(module: str, name: str, arguments: bytes) -> bytes:
    """A call with the arguments that `arguments` leaves on the stack."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + arguments + b"tR"


def doubled(depth: int = 60) -> bytes:
    """A list that holds the same list twice, and so on: 2**depth entries for who walks it as a tree."""
    return b"]" + b"".join(b"q" + bytes([i]) + b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(depth))


def doubled_tuple(depth: int = 60) -> bytes:
    return b")" + b"2\x86" * depth


def many(count: int, value: bytes) -> bytes:
    """A list of `value`, made again each time."""
    return b"](" + value * count + b"e"


def first(value: bytes) -> bytes:
    """Put `value` aside, to be asked for with `h\\xff`."""
    return value + b"q\xff0"


def key(value: bytes) -> bytes:
    return b"}" + utf8("g_ema") + value + b"s"


def twice(number: int, build: Callable[[bytes], bytes]) -> bytes:
    """What lies on the stack put aside, and what `build` makes of a dictionary that has it twice."""
    again = b"h" + bytes([number])
    return b"q" + bytes([number]) + b"0" + build(b"}(" + utf8("a") + again + utf8("b") + again + b"u")


def modules(depth: int = 40) -> bytes:
    """NVIDIA's generator, each module holding the one below it twice."""
    value = module(b"}")
    for i in range(depth):
        value += (
            b"q"
            + bytes([i])
            + b"0"
            + module(b"}(" + utf8("a") + b"h" + bytes([i]) + utf8("b") + b"h" + bytes([i]) + b"u")
        )
    return b"}" + utf8("G_ema") + value + b"s"


def module(children: bytes) -> bytes:
    state = b"}" + utf8("state") + b"}" + utf8("_modules") + children + b"ss"
    return call("torch_utils.persistence", "_reconstruct_persistent_obj", state)


def networks(depth: int = 40) -> bytes:
    """The same of TensorFlow's."""
    value = network(b"}")
    for i in range(depth):
        value += (
            b"q"
            + bytes([i])
            + b"0"
            + network(b"}(" + utf8("a") + b"h" + bytes([i]) + utf8("b") + b"h" + bytes([i]) + b"u")
        )
    return value + b"\x85"


def network(components: bytes) -> bytes:
    state = b"}" + utf8("version") + b"K\x04s" + utf8("components") + components + b"s"
    return b"cdnnlib.tflib.network\nNetwork\n)\x81" + state + b"b"


def long_integer(size: int) -> bytes:
    return b"\x8b" + struct.pack("<i", size) + b"\x7f" * size


def colliding_keys(count: int) -> bytes:
    prime = 2**61 - 1
    keys = (i * prime for i in range(1, count))
    return b"}(" + b"".join(b"\x8a\x0a" + key.to_bytes(10, "little") + b"N" for key in keys) + b"u"


def key_of_each(keys: Iterable[bytes]) -> bytes:
    return b"}(" + b"".join(key + b"N" for key in keys) + b"u"


@functools.cache
def walking_keys(bits: int = 16) -> list[int]:
    """Integers for which a dictionary of 2**bits places walks past half of them: once its hash is used up, it goes
    from a place to five times its number and one, along the places that are taken already."""
    mask = (1 << bits) - 1
    turn = [0]
    for _ in range(mask):
        turn.append((5 * turn[-1] + 1) & mask)
    most = 2 * len(turn) // 3 - 100
    taken = turn[: most * 55 // 100]
    step = np.empty(len(turn), np.int64)
    step[turn] = np.arange(len(turn))
    keys = place = left = np.arange(len(turn), 2**23)
    place = place & mask
    met = step[place] < len(taken)
    while left.any():
        left = left >> 5
        place = (5 * place + left + 1) & mask
        met &= step[place] < len(taken)
    met &= step[place] < len(taken) // 8
    return taken + keys[met][: most - len(taken)].tolist()


def numpy_array(data: bytes, shape: bytes) -> bytes:
    dtype = call("numpy", "dtype", utf8("f4"))
    return call("numpy._core.numeric", "_frombuffer", data + dtype + shape + utf8("C"))


def nested_files(count: int) -> bytes:
    inside = b"".join(LEGACY) + many(10_000, b"N") + b"." + pickle.dumps([], 2)
    return first(b"B" + struct.pack("<I", len(inside)) + inside) + many(
        count, call("torch.storage", "_load_from_bytes", b"h\xff")
    )


A_LIST = first(many(100_000, b"N"))
A_TEXT = first(utf8("x" * 4_000_000))

PICKLES: dict[str, Callable[[], bytes]] = {
    "nested lists as text": lambda: call("_codecs", "encode", doubled() + utf8("latin1")),
    "nested lists as a type": lambda: call("numpy", "dtype", doubled()),
    "nested lists as a shape": lambda: numpy_array(b"C\x08" + bytes(8), doubled()),
    "nested tuples as a shape": lambda: numpy_array(b"C\x08" + bytes(8), doubled_tuple() + b"\x85"),
    "nested tuples as a key": lambda: b"}" + doubled_tuple() + b"Ns",
    "nested tuples as a key of pairs": lambda: key(
        call("collections", "OrderedDict", b"](" + doubled_tuple() + b"N\x86e")
    ),
    "modules in a circle of twos": modules,
    "modules in twos, less deep": lambda: modules(18),
    "networks in a circle of twos": networks,
    "a list copied to sets": lambda: A_LIST + many(20_000, call("builtins", "set", b"h\xff")),
    "a list copied to sizes": lambda: A_LIST + many(20_000, call("torch", "Size", b"h\xff")),
    "a list copied to tuples of arguments": lambda: A_LIST + many(20_000, b"cx\ny\nh\xff}\x92"),
    "pairs copied to dictionaries": lambda: first(many(50_000, b"NN\x86"))
    + many(20_000, call("collections", "OrderedDict", b"h\xff")),
    "a text copied": lambda: A_TEXT + many(400, call("_codecs", "encode", b"h\xff" + utf8("latin1"))),
    "a text as a list": lambda: A_TEXT + many(400, call("builtins", "set", b"h\xff")),
    "a text as arguments": lambda: A_TEXT + many(400, b"cx\ny\nh\xff}\x92"),
    "a file in it read 400 times": lambda: nested_files(400),
    "colliding integers": lambda: colliding_keys(60_000),
    "numbers that meet in the memo": lambda: b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(1, 60_000)),
    "integers that meet on their way": lambda: key_of_each(b"J" + struct.pack("<i", each) for each in walking_keys()),
    "floats that meet on their way": lambda: key_of_each(b"G" + struct.pack(">d", each) for each in walking_keys()),
    "long integers": lambda: first(long_integer(1_000_000)) + many(20_000, b"(" + utf8("storage")
    + b"ctorch\nFloatStorage\n" + utf8("0") + utf8("cpu") + b"h\xfftQ"),
    "an array of 2^44 bytes": lambda: key(numpy_array(b"\x8a\x06" + (2**44).to_bytes(6, "little"), b")")),
    "a shape of many sizes": lambda: key(
        numpy_array(b"C\x00", b"(" + b"\x8a\x06" + b"\xff" * 5 + b"\x7f" + b"2" * 99_999 + b"t")
    ),
    "names of a megabyte": lambda: first(utf8("m" * 1_000_000)) + b"](" + b"".join(
        b"h\xff" + utf8(str(i)) + b"\x93" for i in range(9_000)) + b"e",
}  # fmt: skip
"""Bodies of pickles, all that comes between the protocol and the end."""


def as_pickle(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def measure(read: Callable[[Path], object], path: Path) -> dict[str, Any]:
    """What reading `path` came to: seconds, MB that the process took beside before, and the error's type and text."""
    before, start = _peak(), time.perf_counter()
    kind = text = ""
    try:
        read(path)
    except Exception as error:
        kind, text = ("StkitError" if isinstance(error, StkitError) else type(error).__name__), str(error)
    took = time.perf_counter() - start
    return {"seconds": round(took, 2), "MB": round(_peak() - before), "error": kind, "text": text}


def _peak() -> float:
    """Of this process alone: what getrusage tells begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(reader: str, paths: Sequence[Path]) -> Mapping[str, Mapping[str, Any]]:
    """`measure` of each path, in a process of their own, whose memory is limited; `reader` is MODULE:FUNCTION."""
    command = [sys.executable, "-m", "tests.bombs", reader, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent.parent)
    assert not done.returncode, done.stderr[-2000:]
    return {path.name: json.loads(line) for path, line in zip(paths, done.stdout.splitlines(), strict=True)}


if __name__ == "__main__":
    import importlib

    name, function = sys.argv[1].split(":")
    read = getattr(importlib.import_module(name), function)
    for path in sys.argv[2:]:
        print(json.dumps(measure(read, Path(path))), flush=True)
