"""Least squares as the start of an inverter: pooled features of samples, to their known codes.

A Style Transformer learns where to look from tens of thousands of images. What its `LinearCodes` can say of an image
is found at once, and the queries begin with what is left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stkit.contracts.inversion import ignore_progress
from stkit.errors import UsageError
from stkit.models.generators import Generator
from stkit.models.precision import autocast
from stkit.models.style_transformer import LinearCodes, StyleTransformer
from stkit.photo.images import resize_batch

Progress = Callable[[int, int], None]

_BATCH = 8
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge penalties to choose from, for standardised features, as multiples of the number of samples."""
_QUIET = 0.15
"""What the queries' codes, of unit variance, are multiplied by at the start: about half of what is left unexplained."""


@torch.no_grad()
def fit_linear_codes(
    network: StyleTransformer,
    generator: Generator,
    codes: Tensor,
    dtype: torch.dtype = torch.float32,
    on_progress: Progress = ignore_progress,
) -> float:
    """Set `network.linear` to the least-squares map on the generator's images of `codes` [N, num_ws, w_dim].

    The queries' share of the codes starts small. Every tenth sample chooses the penalty. Returns their unexplained
    share of variance, 1 for what the mean code would do. Raises UsageError without a linear map or with fewer samples
    than twice its rank.
    """
    linear = network.linear
    if linear is None:
        raise UsageError("the inverter has no linear map; give it a linear_rank")
    if len(codes) < 2 * linear.down.out_features:
        raise UsageError(f"{len(codes)} samples are few for a linear map of rank {linear.down.out_features}; give more")
    features = _features(network, generator, codes, dtype, on_progress)
    targets = (codes - network.latent_avg.cpu()).flatten(1)
    held_out = torch.zeros(len(codes), dtype=torch.bool)
    held_out[::10] = True
    mean, spread = features[~held_out].mean(0), features[~held_out].std(0).clamp(min=1e-3)
    seen = (features - mean) / spread
    weight, bias, unexplained = _ridge(seen[~held_out], targets[~held_out], seen[held_out], targets[held_out])
    # The map of full rank, within the directions in which its values vary most.
    _, _, axes = torch.svd_lowrank(seen @ weight, q=min(linear.down.out_features, *weight.shape), niter=2)
    down = weight @ axes
    size = (seen @ down).std(0).clamp(min=1e-6)
    down, up = down / size / spread[:, None], axes * size
    rank = down.shape[1]
    for parameter in linear.parameters():
        parameter.zero_()
    linear.down.weight[:rank].copy_(down.T)
    linear.down.bias[:rank].copy_(-mean @ down)
    linear.up.weight[:, :rank].copy_(up)
    linear.up.bias.copy_(bias)
    last = network.stages[-1]
    assert isinstance(last, nn.TransformerDecoderLayer)
    last.norm3.weight.mul_(_QUIET)
    last.norm3.bias.zero_()
    return unexplained


def _features(
    network: StyleTransformer,
    generator: Generator,
    codes: Tensor,
    dtype: torch.dtype,
    on_progress: Callable[[int, int], None],
) -> Tensor:
    """What the linear map sees of the images of `codes`, float32 [N, channels * 16]."""
    device = network.latent_avg.device
    rows = []
    for part in codes.split(_BATCH):
        images = generator.synthesize(part.to(device), dtype=dtype, resolution=generator.seen_resolution).clamp(-1, 1)
        with autocast(device, dtype):
            _, _, medium, coarse = network.backbone(resize_batch(images, network.config.input_resolution))
        rows.append(LinearCodes.pooled(medium, coarse).cpu())
        on_progress(min(len(rows) * _BATCH, len(codes)), len(codes))
    return torch.cat(rows)


def _ridge(x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor) -> tuple[Tensor, Tensor, float]:
    """Weight [features, values] and bias of the ridge regression whose penalty does best on the held-out rows."""
    from sklearn.linear_model import Ridge

    best: tuple[Tensor, Tensor, float] | None = None
    for penalty in _PENALTIES:
        model = Ridge(alpha=penalty * len(x)).fit(x.numpy(), y.numpy())
        weight, bias = torch.from_numpy(model.coef_).T.float(), torch.from_numpy(model.intercept_).float()
        unexplained = float((x_val @ weight + bias - y_val).square().mean() / y_val.square().mean())
        if best is None or unexplained < best[2]:
            best = weight, bias, unexplained
    assert best is not None
    return best


__all__ = ["fit_linear_codes"]
