# ruff: noqa: SIM905 - names in lines
"""Hostile pickles: each is shown to be live in Python's own unpickler, and to do nothing here."""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkit.checkpoints.budget import Budget
from stkit.checkpoints.names import is_hostile
from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.recognise import open_checkpoint
from stkit.checkpoints.unpickle import Name, Record, read_pickle
from stkit.errors import WeightsError
from tests.bombs import LEGACY

MKDIR = b"cos\nmkdir\n"


def text(value: object) -> bytes:
    return b"V" + str(value).encode() + b"\n"


class Evil:
    """Makes a folder wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def namespace_with_setstate(path: Path) -> bytes:
    """BUILD gives an object a `__setstate__`, the next BUILD calls it."""
    return b"ctypes\nSimpleNamespace\n)R}" + text("__setstate__") + MKDIR + b"sb" + text(path) + b"b."


def object_array(path: Path) -> bytes:
    values = np.empty(1, dtype=object)
    values[0] = Evil(path)
    return pickle.dumps({"g_ema": values})


def object_scalar(path: Path) -> bytes:
    """A numpy scalar of dtype object, whose payload is whatever the pickle puts there."""
    array = np.empty((), dtype=object)
    array[()] = [Evil(path)]
    return pickle.dumps(array, 2)


LIVE: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda path: MKDIR + b"(" + text(path) + b"tR.",
    "stack_global": lambda path: b"\x80\x04" + text("os") + text("mkdir") + b"\x93(" + text(path) + b"tR.",
    "dotted global": lambda path: b"\x80\x04" + text("shutil") + text("os.mkdir") + b"\x93(" + text(path) + b"tR.",
    "inst": lambda path: b"(" + text(path) + b"ios\nmkdir\n.",
    "obj": lambda path: b"(" + MKDIR + text(path) + b"o.",
    "eval": lambda path: b"cbuiltins\neval\n(" + text(f"__import__('os').mkdir({str(path)!r})") + b"tR.",
    "getattr": lambda path: b"cbuiltins\ngetattr\n(cos\npath\n" + text("os") + b"tRp0\n0cbuiltins\ngetattr\n(g0\n"
    + text("mkdir") + b"tR(" + text(path) + b"tR.",
    "partial": lambda path: b"cfunctools\npartial\n(" + MKDIR + text(path) + b"tR)R.",
    "build": namespace_with_setstate,
    "extension registry": lambda path: b"\x80\x02\x82\xf0(" + text(path) + b"tR.",
    "inside a dictionary": lambda path: b"(" + text("g_ema") + MKDIR + b"(" + text(path) + b"tRd.",
    "value of an OrderedDict": lambda path: b"ccollections\nOrderedDict\n)R" + text("k") + MKDIR + b"(" + text(path)
    + b"tRs.",
    "items of an OrderedDict": lambda path: b"ccollections\nOrderedDict\n(](" + text("k") + MKDIR + b"("
    + text(path) + b"tRtatR.",
    "state of a namespace": lambda path: b"cargparse\nNamespace\n)R}" + text("x") + MKDIR + b"(" + text(path)
    + b"tRsb.",
    "numpy object array": object_array,
    "numpy object scalar": object_scalar,
    "torch's own rebuild function": lambda path: b"ctorch._tensor\n_rebuild_from_type_v2\n(" + MKDIR
    + b"cbuiltins\nint\n(" + text(path) + b"tNtR.",
    "dictionary with a default": lambda path: b"ccollections\ndefaultdict\n(cfunctools\npartial\n(" + MKDIR + text(path)
    + b"tRtRp0\n0cbuiltins\ngetattr\n(g0\n" + text("__getitem__") + b"tR(I1\ntR.",
    "nested torch file": lambda path: b"ctorch.storage\n_load_from_bytes\n(" + nested(path) + b"tR.",
}  # fmt: skip


def nested(path: Path) -> bytes:
    inner = b"".join(LEGACY) + MKDIR + b"(" + text(path) + b"tR." + pickle.dumps([], 2)
    return b"B" + struct.pack("<I", len(inner)) + inner


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "mkdir", 240)
    yield
    copyreg.remove_extension("os", "mkdir", 240)


def as_pickle(path: Path, payload: bytes) -> Path:
    path.write_bytes(payload)
    return path


def as_zip(path: Path, payload: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/data/0", bytes(16))
    return path


def as_legacy(path: Path, payload: bytes) -> Path:
    path.write_bytes(b"".join(LEGACY) + payload + pickle.dumps([], 2))
    return path


@pytest.mark.filterwarnings("ignore")  # of the unpickler that is shown to fall for it
@pytest.mark.parametrize("write", [as_pickle, as_zip, as_legacy])
@pytest.mark.parametrize("trick", LIVE)
def test_no_code_runs(trick: str, write: Callable[[Path, bytes], Path], tmp_path: Path, extension: None) -> None:
    canary = tmp_path / "canary"
    payload = LIVE[trick](canary)
    with contextlib.suppress(Exception):  # what matters is what it did before
        pickle.loads(payload)
    assert canary.is_dir(), "this payload does nothing even in Python's unpickler"
    canary.rmdir()
    path = write(tmp_path / "model.pt", payload)
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x02cos\nmkdir\n(V{}\nt\x81.",
        b"\x80\x04Vos\nVmkdir\n\x93(V{}\nt}\x92.",
        b"\x80\x02(Vstorage\ncos\nmkdir\nV{}\nVcpu\nK\x01tQ.",
        b"PV{}\n.",
    ],
    ids=["newobj", "newobj_ex", "storage class", "text persistent id"],
)
def test_tricks_that_need_more_than_a_pickle(payload: bytes, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for write in (as_pickle, as_zip, as_legacy):
        with pytest.raises(WeightsError):
            open_checkpoint(write(tmp_path / "model.pt", payload.replace(b"{}", str(canary).encode())))
    assert not canary.exists()


def test_what_is_hostile_is_named(tmp_path: Path) -> None:
    content = {"x": Evil(tmp_path / "canary"), "fine": torch.zeros(2)}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content))
    checkpoint = read_checkpoint(path)
    assert checkpoint.hostile == (f"{os.mkdir.__module__}.mkdir",)
    assert torch.equal(checkpoint.content["fine"].load(), torch.zeros(2))
    assert checkpoint.content["x"].args == (str(tmp_path / "canary"),)


def test_honest_files_are_not_hostile(tmp_path: Path) -> None:
    torch.save({"w": torch.nn.Linear(2, 2).state_dict(), "p": Path("x"), "s": {1}}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").hostile == ()


@pytest.mark.parametrize(
    "name",
    """os.system posix.system builtins.eval torch.serialization.os.system torch.load torch.hub.load
    pip._internal.main pip.main numpy.testing._private.utils.runstring numpy.load numpy.fromfile
    numpy.f2py.crackfortran.getlincoef torch.utils.collect_env.run
    torch.fx.graph_module.reduce_graph_module torch.jit.unsupported_tensor_ops.execWrapper
    torch._inductor.codecache.compile_file dill._dill._eval some.module.os.system some.Thing.__globals__
    __main__.subprocess.Popen training.misc.shutil.rmtree pandas.read_pickle
    pandas.io.pickle.read_pickle joblib.load setuptools.sandbox.run_setup
    hydra.utils.instantiate dnnlib.util.call_func_by_name torch_utils.custom_ops.get_plugin PIL.ImageShow.XDGViewer.show
    PIL.ImageMath.unsafe_eval tensorflow.py_function tensorflow.python.ops.script_ops.eager_py_func keras.layers.Lambda
    torchvision.datasets.utils.download_url transformers.utils.hub.cached_file attr._make._compile_and_eval
    mlflow.pyfunc.load_model git.cmd.Git.execute onnxruntime.InferenceSession pandas.core.frame.DataFrame.query
    ruamel.yaml.YAML torch.nn.init.open pydantic.utils.import_string uvloop.run matplotlib.pyplot.savefig cv2.imwrite
    stkit.files.write_text""".split(),
)
@pytest.mark.parametrize("instruction", ["GLOBAL", "STACK_GLOBAL"])
def test_names_that_run_something_are_hostile(name: str, instruction: str, tmp_path: Path) -> None:
    """However a name is divided into a module and what is in it, with dots on either side."""
    parts = name.split(".")
    for cut in range(1, len(parts)):
        module, inside = ".".join(parts[:cut]), ".".join(parts[cut:])
        named = f"c{module}\n{inside}\n".encode()
        if instruction == "STACK_GLOBAL":
            named = b"\x80\x04" + text(module) + text(inside) + b"\x93"
        checkpoint = read_checkpoint(as_pickle(tmp_path / "model.pkl", b"](" + named + b"e."))
        assert checkpoint.hostile == (name,)


@pytest.mark.parametrize(
    "name",
    """torch._utils._rebuild_tensor_v2 torch.FloatStorage torch.cuda.FloatTensor
    torch.nn.modules.conv.Conv2d torch.nn.parameter.Parameter torch.Size torch.device torch.uint16 torch.float8_e4m3fn
    torch.optim.adam.Adam numpy.float64 numpy._core.multiarray._reconstruct numpy.core.multiarray.scalar
    numpy.random._pickle.__randomstate_ctor torch.serialization._get_layout
    torch_utils.persistence._reconstruct_persistent_obj models.psp.pSp dnnlib.tflib.network.Network
    datasets.images_dataset.ImagesDataset dnnlib.util.EasyDict argparse.Namespace
    pathlib._local.PosixPath __main__.Config src.code.train.Options""".split(),
)
def test_names_of_honest_checkpoints_are_not_hostile(name: str) -> None:
    module, _, inside = name.rpartition(".")
    assert not is_hostile(Name(module, inside))


@pytest.mark.parametrize("module", ["torch.nn.modules.module", "numpy.core.multiarray", "models.stylegan2", "__main__"])
@pytest.mark.parametrize(
    "inside", ["functools.partial", "weakref.ref", "tempfile.mkdtemp", "warnings.warn", "Net.io.open"]
)
def test_what_a_module_has_imported_is_not_its_own(module: str, inside: str) -> None:
    assert is_hostile(Name(module, inside))
    assert not is_hostile(Name(module, "Net.Block")) or module == "numpy.core.multiarray"


def test_foreign_classes_become_records() -> None:
    names: set[Name] = set()
    record = read_pickle(io.BytesIO(b"csome.module\nThing\n(K\x01K\x02tR}Vk\nK\x03sb."), names, Budget(0))
    assert isinstance(record, Record)
    assert (record.name, record.args, record.state) == ("some.module.Thing", (1, 2), {"k": 3})
    assert names == {Name("some.module", "Thing")}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"(" * 12_000 + b"t" * 12_000 + b".", "nested deeper"),
        (b")" + b"2\x86" * 200 + b".", "no checkpoint that stkit knows"),
        (b"}" + b")" + b"2\x86" * 200 + b"K\x01s.", "its keys: no name"),
        (b"0.", "damaged"),
        (b"]" * 30_000 + b".", "more steps"),
        (b"]p0\ng0\na.", "no checkpoint that stkit knows"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".", "damaged"),
        (b"\x80\x02\x8b" + struct.pack("<i", -5) + b".", "damaged"),
        (b"I" + b"9" * 100_000 + b"\n.", "damaged"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01", "damaged"),
        (b"\x80\x02K\x01K\x02b.", "damaged"),
        (b"(K\x01d.", "damaged"),
        (b"(lK\x01K\x02s.", "damaged"),
        (b"cos\nmkdir\nK\x01R.", "damaged"),
        (b"h\x07.", "damaged"),
        (b"\x80\x02\xff.", "damaged"),
    ],
)
def test_bombs_and_nonsense_end_in_one_line(
    payload: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stkit.checkpoints.budget._STEPS", 25_000)
    path = as_zip(tmp_path / "model.pt", payload)
    with pytest.raises(WeightsError, match=reason) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
