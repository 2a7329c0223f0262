"""A file of tensors with a header: written, read whole and checked, compared with what a model has."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.errors import WeightsError
from stkit.files import atomic_path
from stkit.headers import Header, header_metadata, load_header
from stkit.remote import local_copy
from stkit.storage import as_float32

if TYPE_CHECKING:
    from torch import Tensor, nn

_MAX_CALLS = 200_000  # of torch, to build a model; StyleGAN2 takes 1,000


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Header) -> Header:
    """Write a weights file; returns `header` with the fingerprint filled in. Raises OutputError."""
    import dataclasses

    import safetensors.torch

    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    fingerprint = tensors_fingerprint(stored)
    header = dataclasses.replace(header, fingerprint=fingerprint, generator=header.generator or fingerprint)
    data = safetensors.torch.save(stored, metadata=header_metadata(header))
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return header


def load_tensors(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """A weights file whole, its tensors checked against the fingerprint. Raises WeightsError."""
    import safetensors.torch

    header = load_header(path)
    try:
        with local_copy(path) as local:
            tensors = safetensors.torch.load_file(local)
    except (OSError, safetensors.SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        raise WeightsError(f"cannot read weights from {path}: {error}") from error
    if tensors_fingerprint(tensors) != header.fingerprint:
        raise WeightsError(f"{path} is damaged: its tensors do not match their fingerprint; install or copy it again")
    return header, tensors


def count_numbers(path: Path) -> int:
    """How many numbers the networks of a weights file have, however they are stored. Raises WeightsError."""
    return sum(value.numel() for value in as_float32(load_tensors(path)[1]).values())


def require_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int | str]], path: Path) -> None:
    """Raise WeightsError unless `tensors` are finite numbers of these names and shapes, and no others.

    A letter in a shape stands for any size but 0, the same for all tensors.
    """
    known: dict[str, int] = {}
    for name, wanted in shapes.items():
        value = tensors.get(name)
        if value is None or value.ndim != len(wanted):
            raise WeightsError(f"{path} has no {name} of {len(wanted)} dimensions; make it again")
        for size, there in zip(wanted, value.shape, strict=True):
            if there != (known.setdefault(size, there) if isinstance(size, str) else size) or not there:
                raise WeightsError(
                    f"{path} has {name} of shape {tuple(value.shape)}, not {tuple(wanted)}; make it again"
                )
        if value.is_complex() or not value.isfinite().all():
            raise WeightsError(f"{path} has {name} that are not finite numbers; make it again")
    if more := tensors.keys() - shapes.keys():
        raise WeightsError(f"{path} has {', '.join(sorted(more))[:80]} that do not belong there; make it again")


_FILLING = {
    *("normal_", "uniform_", "fill_", "zero_", "ones_", "zeros_", "constant_", "trunc_normal_"),
    *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"),
}
"""What fills tensors in place, of tensors and of `torch.nn.init`."""


def state_shapes(build: Callable[[], nn.Module], most: int | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a model, without the memory for it.

    Raises WeightsError once it has made more than `most` numbers, or a model of a file could have modules.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutNumbers(TorchFunctionMode):
        """Leaves out what fills tensors: without numbers it is done in Python, for which torch imports its compiler."""

        calls = numbers = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.Tensor.div, torch.Tensor.__truediv__) or func.__name__ in _FILLING:
                return args[0] if args else kwargs["tensor"]
            named = {name: value for name, value in (kwargs or {}).items() if name != "generator"}  # it is of a CPU
            value = (torch.empty if func in (torch.randn, torch.rand) else func)(*args, **named)
            self.calls += 1
            self.numbers += value.numel() if isinstance(value, torch.Tensor) else 0
            if most is not None and (self.numbers > most or self.calls > _MAX_CALLS):
                raise WeightsError("a model of more numbers than the file holds")
            return value

    with torch.device("meta"), WithoutNumbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zero-element tensors
        return {name: tuple(value.shape) for name, value in build().state_dict().items()}


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


__all__ = [
    "count_numbers",
    "load_tensors",
    "require_tensors",
    "save_tensors",
    "state_shapes",
    "tensors_fingerprint",
]
