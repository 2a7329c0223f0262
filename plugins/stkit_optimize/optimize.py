"""Optimisation of the codes, in W or in W+."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stkit.plugin import InversionContext, Inverter, LatentSpace
from stkit_optimize.options import OptimizeOptions, is_large

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Generator, Latents
    from stkit_optimize.objective import Objective


class Optimize(Inverter[OptimizeOptions]):
    """The codes that minimise L2 and LPIPS, photo by photo.

    In w_plus (Abdal et al., "Image2StyleGAN", ICCV 2019) from the codes of the weights' own encoder and
    held near them, otherwise from `w_avg`. In w as Karras et al., CVPR 2020, appendix D: from `w_avg`,
    with random steps that die away and noise maps of its own, regularised and dropped at the end.
    """

    name = "optimize"
    description = "optimisation of the codes, in W+ from the encoder's or in W (Karras et al., CVPR 2020)"
    refines = True
    Options = OptimizeOptions

    def invert(self, crops: torch.Tensor, options: OptimizeOptions, context: InversionContext) -> Latents:
        """w_plus of `crops` [B, 3, R, R] in [-1, 1]; with space=w all layers of a row are equal."""
        import torch

        from stkit.plugin import Latents, fast_dtype, resize_batch
        from stkit_optimize.objective import Objective, load_network, perceptual_size, seen_resolution
        from stkit_optimize.projector import project
        from stkit_optimize.start import starting_codes, starting_generator

        generator = starting_generator(context)
        starts = starting_codes(crops, context, encode=options.space is LatentSpace.W_PLUS)  # [B, num_ws, w_dim]
        lpips = options.lpips_weight(context.weights.resolution)
        network = load_network(lpips, context.device)
        dtype, seen = fast_dtype(context.device), seen_resolution(generator)
        sizes = (perceptual_size(seen),)
        tuning = context.start.tuning if context.start else None
        rows: list[torch.Tensor] = []

        def latents(done: list[torch.Tensor]) -> Latents:
            later = starts[len(done) :].split(1)
            return Latents(torch.cat([*done, *later]).contiguous(), context.weights.space, tuning=tuning)

        for i, crop in enumerate(crops.split(1)):
            target = resize_batch(crop.to(context.device), seen)
            objective = Objective(target, options.l2, lpips, network, sizes, dtype)

            def on_step(done: int, codes: Callable[[], torch.Tensor], before: int = i * options.steps) -> None:
                context.on_progress(before + done, len(crops) * options.steps)
                context.on_latents(lambda: latents([*rows, codes()]))

            if options.space is LatentSpace.W:
                explore = context.start is None
                w = project(generator, objective, starts[i].mean(0), options, context.seed, explore, on_step)
                rows.append(generator.broadcast(w))
            else:
                rows.append(_optimize_w_plus(generator, objective, starts[i : i + 1], options, on_step))
        return latents(rows)

    def quality_steps(self, quality: str, resolution: int) -> int:
        """Fewer of the large generators', which take a second each where a small one's take a tenth."""
        large, small = {"balanced": (75, 100), "best": (50, 100)}.get(quality, (0, 0))
        return large if is_large(resolution) else small


def _optimize_w_plus(
    generator: Generator,
    objective: Objective,
    start: torch.Tensor,
    options: OptimizeOptions,
    on_step: Callable[[int, Callable[[], torch.Tensor]], None],
) -> torch.Tensor:
    """Codes [1, num_ws, w_dim] from `start`, which they are held near to."""
    import torch

    from stkit_optimize.descent import descend
    from stkit_optimize.start import w_spread

    _, std = w_spread(generator)
    from_mean = bool((start == generator.w_avg).all())
    pull = options.pull(generator.config.img_resolution, from_mean)
    offset = torch.zeros_like(start).requires_grad_()  # in standard deviations of w

    def loss_at(step: int) -> torch.Tensor:
        image = generator.synthesize(start + std * offset, dtype=objective.dtype, resolution=objective.crop.shape[-1])
        return objective(image) + pull * offset.square().mean()

    def codes() -> torch.Tensor:
        return (start + std * offset).detach()

    rate = options.rate(generator.config.img_resolution)
    descend([offset], rate, options.steps, options.patience, loss_at, lambda done: on_step(done, codes))
    return codes()


__all__ = ["Optimize"]
