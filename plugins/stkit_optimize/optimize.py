"""Optimisation of the codes, in W or in W+."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import pydantic

from stkit.plugin import InversionContext, Inverter, LatentSpace, Options

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Generator, Latents
    from stkit_optimize.objective import Objective


class OptimizeOptions(Options):
    """Options of optimize. Distances between codes are in standard deviations of w."""

    space: LatentSpace = pydantic.Field(default=LatentSpace.W_PLUS, description="w (one code for all layers) or w_plus")
    steps: int = pydantic.Field(default=200, ge=1, description="at most so many")
    learning_rate: float | None = pydantic.Field(
        default=None, gt=0, description="of Adam, between its ramps; by default 0.05, and 0.2 from 512 px on"
    )
    l2: float = pydantic.Field(default=2.0, ge=0, description="weight of the mean squared error")
    lpips: float | None = pydantic.Field(
        default=None, ge=0, description="weight of LPIPS-Alex; by default 0.8, and 2 from 512 px on"
    )
    proximity: float = pydantic.Field(
        default=0.02, ge=0, description="w_plus: weight of the squared way from the start"
    )
    noise: float = pydantic.Field(default=1e5, ge=0, description="w: weight of the noise regularisation")
    patience: int = pydantic.Field(default=40, ge=0, description="stop after so many steps without 1% gain; 0: never")

    def rate(self, resolution: int) -> float:
        """The learning rate for a generator of that resolution."""
        return self.learning_rate or (0.2 if self._is_far(resolution) else 0.05)

    def lpips_weight(self, resolution: int) -> float:
        """The weight of LPIPS for a generator of that resolution."""
        return (2.0 if self._is_far(resolution) else 0.8) if self.lpips is None else self.lpips

    def _is_far(self, resolution: int) -> bool:
        # A face of 1024 px has far to go in W+: with the small generators' values 60 steps leave twice the LPIPS.
        return self.space is LatentSpace.W_PLUS and resolution >= 512


class Optimize(Inverter[OptimizeOptions]):
    """The codes that minimise L2 and LPIPS, photo by photo.

    In w_plus (Abdal et al., "Image2StyleGAN", ICCV 2019) from the codes of the weights' own encoder and
    held near them, otherwise from `w_avg`. In w as Karras et al., CVPR 2020, appendix D: from `w_avg`,
    with random steps that die away and noise maps of its own, regularised and dropped at the end.
    """

    name = "optimize"
    description = "optimisation of the codes, in W+ from the encoder's or in W (Karras et al., CVPR 2020)"
    refines = True
    qualities: ClassVar[Mapping[str, int]] = {"balanced": 100, "best": 100}
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
    offset = torch.zeros_like(start).requires_grad_()  # in standard deviations of w

    def loss_at(step: int) -> torch.Tensor:
        image = generator.synthesize(start + std * offset, dtype=objective.dtype, resolution=objective.crop.shape[-1])
        return objective(image) + options.proximity * offset.square().mean()

    def codes() -> torch.Tensor:
        return (start + std * offset).detach()

    rate = options.rate(generator.config.img_resolution)
    descend([offset], rate, options.steps, options.patience, loss_at, lambda done: on_step(done, codes))
    return codes()


__all__ = ["Optimize", "OptimizeOptions"]
