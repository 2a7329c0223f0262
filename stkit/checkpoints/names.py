# ruff: noqa: SIM905 - as lists of strings the words would take four screens
"""Names in pickles that no checkpoint needs: what unpickling it elsewhere would import, and probably call.

Of Python itself, of torch and of numpy a few things are allowed and all else is hostile; of other packages those that
are known to run or fetch what they are told. Classes of programs that nobody knows are neither, and only listed.
"""

from __future__ import annotations

import sys

from stkit.checkpoints.unpickle import Name

_PYTHON = {
    "argparse": {"Namespace"},
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter"},
    "copyreg": {"_reconstructor"},
    "copy_reg": {"_reconstructor"},
    "_codecs": {"encode"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "datetime": {"date", "datetime", "timedelta"},
    "types": {"SimpleNamespace"},
    "enum": {"Enum"},
    "builtins": {"set", "frozenset", "object", "dict", "list", "tuple", "int", "float", "str", "bool", "bytes",
                 "bytearray", "complex", "slice", "range"},
    "__builtin__": {"set", "frozenset", "object", "dict", "list", "tuple", "int", "float", "str", "long", "unicode",
                    "bytearray"},
}  # fmt: skip
_OLD_PYTHON = {"__builtin__", "commands", "popen2", "imp", "asyncore", "distutils", "exceptions", "copy_reg"}

# Of these packages: modules all of whose contents may be named, and single names.
_KNOWN_MODULES = {
    "torch": ("nn", "optim", "_utils", "_tensor", "storage", "distributions", "amp", "cuda.amp", "random",
              "utils.data.dataset", "utils.data.dataloader", "utils.data.sampler", "ao.nn", "torch_version",
              "jit._pickle"),
    "numpy": ("core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric", "random", "ma.core", "matrixlib",
              "dtypes", "core._multiarray_umath", "_core._multiarray_umath"),
}  # fmt: skip
_KNOWN_NAMES = {
    "torch": set("""Size device dtype Tensor layout memory_format Generator strided contiguous_format preserve_format
                 channels_last float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128
                 uint16 uint32 uint64 complex32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz chalf cfloat
                 cdouble float double half long int short serialization._get_layout""".split()),
    "numpy": set("""ndarray dtype matrix recarray generic bool bool_ str_ bytes_ void object_ float16 float32 float64
                 float128 longdouble complex64 complex128 int8 int16 int32 int64 intc int_ longlong uint8 uint16
                 uint32 uint64 uintc uint ulonglong datetime64 timedelta64""".split()),
}  # fmt: skip

_CALLS = set(
    """eval exec execfile execv execve execvp system popen Popen spawn spawnv spawnl check_output check_call getoutput
    getstatusoutput run_module run_path runstring import_module __import__ load_module exec_module load_library
    read_pickle unsafe_load full_load getattr setattr delattr compile open input breakpoint globals vars unsafe_eval
    cached_file download_url download_file import_string _compile_and_eval __globals__ __builtins__ __subclasses__
    __getattribute__ __class__ __dict__ __code__""".split()
)
_MODULES = set(
    """os posix nt sys subprocess _posixsubprocess builtins __builtin__ importlib runpy pty shutil ctypes _ctypes socket
    pickle cPickle marshal multiprocessing pydoc pdb bdb timeit cProfile ensurepip venv codeop webbrowser commands
    popen2 _winapi winreg linecache""".split()
)
_PACKAGES = set(
    """pip setuptools pkg_resources easy_install virtualenv conda IPython ipykernel jupyter_client jupyter_core pytest
    _pytest nose tox nox fabric paramiko asyncssh pexpect ptyprocess winpty plumbum psutil delegator dill cloudpickle
    joblib jsonpickle cffi pyximport numba llvmlite triton cppyy requests urllib3 httpx httpcore aiohttp pycurl
    websocket websockets tornado twisted gevent eventlet uvicorn gunicorn flask django werkzeug jinja2 mako celery
    kombu boto3 botocore dulwich pyspark mpi4py fsspec smart_open s3fs gcsfs sqlalchemy numexpr sympy simpleeval asteval
    js2py execjs win32api win32com pythoncom pynput pyautogui keyboard gdown huggingface_hub hatchling twine hydra fire
    invoke sh git pygit2 bottle starlette streamlit gradio mlflow bentoml distributed modal zmq nltk lxml onnxruntime
    click typer cloudpathlib papermill nbconvert libtmux selenium playwright smbclient ftputil wget uvloop trio anyio
    matplotlib cv2 imageio""".split()
)
_PARTS_OF_PACKAGES = tuple(
    """pandas.io pandas.core.computation pandas.eval pandas.read_ pandas.core.frame.DataFrame. pandas.DataFrame.
    yaml.load yaml.unsafe yaml.constructor ruamel.yaml sklearn.externals sklearn.datasets scipy.io h5py.File
    h5py._hl.files tensorflow.python.platform tensorflow.python.lib tensorflow.python.ops.script_ops
    tensorflow.python.ops.io_ops tensorflow.io tensorflow.load_ tensorflow.py_function tensorflow.numpy_function
    tensorflow.keras.layers.Lambda keras.layers.Lambda keras.layers.core.lambda_layer
    keras.src.layers.core.lambda_layer keras.src.saving keras.saving PIL.ImageShow PIL.ImageMath PIL.ImageGrab
    torchvision.datasets torchvision.io pytorch_lightning.utilities.cloud_io lightning_fabric.utilities.cloud_io
    lightning.fabric.utilities.cloud_io transformers.utils diffusers.utils transformers.dynamic_module_utils
    datasets.load ray.init ray.remote ray.job dask.config dask.distributed wandb.util accelerate.commands
    dnnlib.util.call_func dnnlib.util.construct dnnlib.util.get_ dnnlib.util.open_url dnnlib.util.copy_
    dnnlib.submission torch_utils.custom_ops omegaconf.omegaconf. omegaconf.OmegaConf gymnasium.utils
    test.support stkit.files stkit.plugins""".split()
)


def is_hostile(name: Name) -> bool:
    """Whether no checkpoint needs what `name` names, and unpickling it would import, run or fetch something."""
    root, *rest = f"{name.module}.{name.name}".split(".")
    if root in _OLD_PYTHON or (root in sys.stdlib_module_names and root != "__main__"):
        return name.name not in _PYTHON.get(name.module, ())
    through = name.name.split(".")[:-1]  # modules that a module happens to have imported: torch.nn.init + math.prod
    if root in _PACKAGES or not (_CALLS | _MODULES).isdisjoint(rest) or not sys.stdlib_module_names.isdisjoint(through):
        return True
    if root in _KNOWN_MODULES:
        path = ".".join(rest)
        inside = any(path.startswith(f"{known}.") for known in _KNOWN_MODULES[root])
        return not (inside or path in _KNOWN_NAMES[root] or path.endswith(("Storage", "Tensor")))
    return str(name).startswith(_PARTS_OF_PACKAGES)


__all__ = ["is_hostile"]
