"""Pivotal tuning: the generator itself is tuned to the photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import InversionContext, Inverter, LatentSpace
from stkit_optimize.optimize import Optimize
from stkit_optimize.options import OptimizeOptions, PTIOptions, is_large

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class PTI(Inverter[PTIOptions]):
    """Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", ACM TOG 2022.

    The synthesis network is tuned until the pivot gives the photo; elsewhere it is held to what it gave
    before. The pivot is what `context.start` holds, otherwise the projection to W. A batch is tuned
    together, and its latents share the one tuned generator.
    """

    name = "pti"
    tunes = True
    description = "pivotal tuning of the generator around a pivot in W (Roich et al., ACM TOG 2022)"
    refines = True
    Options = PTIOptions

    def invert(self, crops: torch.Tensor, options: PTIOptions, context: InversionContext) -> Latents:
        """The pivots, [B, num_ws, w_dim], with the tuning of the generator."""
        import dataclasses

        from stkit_optimize.tune import tune

        if context.start is not None:
            pivots = context.start
        else:
            chosen = OptimizeOptions(
                space=LatentSpace.W, steps=options.pivot_steps, learning_rate=0.1, l2=options.l2, lpips=options.lpips
            )
            pivots = Optimize().invert(crops, chosen, context)
        return dataclasses.replace(pivots, tuning=tune(crops, pivots, options, context))

    def quality_steps(self, quality: str, resolution: int) -> int:
        """Of best only; fewer of the large generators', as for optimize."""
        large, small = {"best": (75, 150)}.get(quality, (0, 0))
        return large if is_large(resolution) else small


__all__ = ["PTI"]
