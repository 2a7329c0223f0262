"""Training in several processes, one a GPU or machine, started by `torchrun`.

A batch is always the whole batch: each process works on its share of the rows, and gradients, batch
norm statistics and logged values are averaged. All processes draw the same random numbers before they
take their rows, so the result is that of one process, up to rounding and what depends on the rows
beside each other (groups of the minibatch standard deviation, which rows are zoomed).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stkit.errors import UsageError


def start(device: torch.device) -> None:
    """Join the processes that `torchrun` started (by its environment variables); nothing without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(dist.destroy_process_group)


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def require_shares(batch: int) -> int:
    """The rows of each process. Raises UsageError when `batch` cannot be shared evenly."""
    if batch % world_size():
        raise UsageError(f"a batch of {batch} cannot be shared by {world_size()} processes; give a multiple of it")
    return batch // world_size()


def shard(rows: Tensor) -> Tensor:
    """This process's share of `rows` [B, ...], consecutive: [B / processes, ...]."""
    share = len(rows) // world_size()
    return rows[rank() * share : (rank() + 1) * share]


def gather(rows: Tensor) -> Tensor:
    """The inverse of `shard`, without gradients."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their means over the processes."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def average_values(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means of scalars over the processes."""
    if world_size() == 1:
        return dict(values)
    device = max((value.device for value in values.values()), key=lambda device: device.type != "cpu")
    packed = torch.stack([value.float().reshape(()).to(device) for value in values.values()])
    dist.all_reduce(packed)
    return dict(zip(values, packed / world_size(), strict=True))


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if world_size() == 1:
        return flag
    count = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(count)
    return bool(count)


class _SumOfProcesses(torch.autograd.Function):
    """The sum over the processes, with gradients; torch's own is deprecated and keeps the process group alive."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes' rows; torch's own needs a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        values = x.float()
        mean = _SumOfProcesses.apply(values.mean((0, 2, 3))) / world_size()
        centred = values - mean[:, None, None]
        variance = _SumOfProcesses.apply(centred.square().mean((0, 2, 3))) / world_size()
        count = x.numel() // x.shape[1] * world_size()
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def sync_batch_norms(model: nn.Module) -> None:
    """Make the batch norms of `model` see all processes' rows, in place; nothing in a single process."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d and world_size() > 1:
            module.__class__ = SyncedBatchNorm


__all__ = [
    "SyncedBatchNorm",
    "any_process",
    "average_gradients",
    "average_values",
    "gather",
    "rank",
    "require_shares",
    "shard",
    "start",
    "sync_batch_norms",
    "world_size",
]
