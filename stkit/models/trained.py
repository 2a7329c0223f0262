"""Networks on latent codes that a training has left beside a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from stkit.errors import WeightsError

if TYPE_CHECKING:
    from stkit.weights import Weights

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_trained(
    weights: Weights,
    kind: str,
    architecture: str,
    data_flags: str,
    build: Callable[[Mapping[str, Any]], ModuleT],
    device: torch.device | str,
) -> ModuleT:
    """The network on codes of `weights` that `stkit train KIND` made, built by `build` from its config, in eval mode.

    Raises WeightsError saying how to train one, by `data_flags`, when there is none, and naming both sides
    when it belongs to another generator or to codes of another size.
    """
    path = weights.path(kind)
    if not path.exists():
        raise WeightsError(
            f"weights '{weights.name}' have no {architecture.replace('-', ' ')} ({path} is not there); train one with: "
            f"stkit train {kind} {data_flags} --weights {weights.name} --attributes A,B --out RUN"
        )

    def build_checked(config: Mapping[str, Any]) -> ModuleT:
        num_ws, w_dim = config.get("num_ws"), config.get("w_dim")
        if (num_ws, w_dim) != (weights.num_ws, weights.w_dim):
            raise WeightsError(
                f"{path} is for codes of {num_ws} layers and width {w_dim}, but weights '{weights.name}' have "
                f"{weights.num_ws} layers and width {weights.w_dim}; train it again with these weights"
            )
        return build(config)

    return weights.load(kind, architecture, build_checked, device)


__all__ = ["load_trained"]
