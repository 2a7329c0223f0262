"""First- and second-order directions of a latent classifier (Hu et al., CVPR 2022, section 3.4), per image.

Codes are w_plus [B, num_ws, w_dim] in float64, where finite differences and saturated classifiers still
have digits to work with; L is BCE(C_k(w), y) with y [B] the label to move to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def first_order(logit: Function, codes: Tensor, y: Tensor) -> Tensor:
    """n = -g / |g| with g the gradient of L; `logit` maps codes to C_k(w) [B]."""
    return -unit(loss_gradient(logit, codes, y))


def second_order(
    logit: Function, codes: Tensor, y: Tensor, xi: float, iterations: int, random: torch.Generator
) -> Tensor:
    """d, the eigenvector of the Hessian H of L whose eigenvalue is largest in absolute value, with L falling along it.

    Power iteration on H d = (grad L(w + xi d) - grad L(w)) / xi, |d| = 1, `xi` in units of the codes,
    starting from a random direction. The sign of an eigenvector is free: taken downhill in every iteration, a
    classifier that bends within `xi` is looked at where the edit goes, and not behind it.
    """
    here = loss_gradient(logit, codes, y)

    def downhill(d: Tensor) -> Tensor:
        return torch.where((d * here).sum((1, 2), keepdim=True) > 0, -d, d)

    d = downhill(unit(torch.randn(codes.shape, generator=random, dtype=codes.dtype)))
    for _ in range(iterations):
        product = (loss_gradient(logit, codes + xi * d, y) - here) / xi
        d = downhill(torch.where(norm(product) > 0, unit(product), d))
    return d


def loss_gradient(logit: Function, codes: Tensor, y: Tensor) -> Tensor:
    """grad_w BCE(C_k(w), y), row by row, the shape of `codes`."""
    with torch.enable_grad():
        w = codes.detach().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(logit(w), y, reduction="sum")
        return torch.autograd.grad(loss, w)[0]


def logit_gradients(logits: Function, codes: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The logits [B, K], and the gradients [B, len(indices), num_ws, w_dim] of some of them."""
    with torch.enable_grad():
        w = codes.detach().requires_grad_()
        values = logits(w)
        rows = [torch.autograd.grad(values[:, k].sum(), w, retain_graph=True)[0] for k in indices]
    return values.detach(), torch.stack(rows, 1)


def project_out(direction: Tensor, held: Tensor) -> Tensor:
    """`direction` [B, num_ws, w_dim] without its part in the span of `held` [B, H, num_ws, w_dim]."""
    if held.shape[1] == 0:
        return direction
    basis = held.flatten(2).transpose(1, 2)  # [B, D, H]
    basis = basis / basis.norm(dim=1, keepdim=True).clamp(min=1e-300)
    flat = direction.flatten(1)[..., None]
    # By least squares, which minds neither parallel gradients nor ones that are zero.
    inside = basis @ torch.linalg.pinv(basis.transpose(1, 2) @ basis, rtol=1e-9, hermitian=True)
    inside = inside @ (basis.transpose(1, 2) @ flat)
    return (flat - inside).reshape(direction.shape)


def norm(direction: Tensor) -> Tensor:
    """The length of each row, [B, 1, 1]."""
    return direction.flatten(1).norm(dim=1)[:, None, None]


def unit(direction: Tensor) -> Tensor:
    """Each row at length 1; zero stays zero."""
    return direction / norm(direction).clamp(min=1e-300)


__all__ = ["first_order", "logit_gradients", "loss_gradient", "norm", "project_out", "second_order", "unit"]
