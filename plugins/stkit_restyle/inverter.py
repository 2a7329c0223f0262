"""From crops to w_plus in several passes, each of which sees the reconstruction so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import InversionContext, Inverter, Options

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class ReStyleOptions(Options):
    """Options of restyle."""

    iterations: int | None = pydantic.Field(
        default=None, ge=1, le=50, description="passes; by default as many as in training"
    )


class ReStyle(Inverter[ReStyleOptions]):
    """Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement", ICCV 2021.

    Around a pSp or an e4e encoder; which one, the weights say.
    """

    name = "restyle"
    description = "encoder in several passes over photo and reconstruction (Alaluf et al., ICCV 2021)"
    Options = ReStyleOptions

    def invert(self, crops: torch.Tensor, options: ReStyleOptions, context: InversionContext) -> Latents:
        """w_plus of `crops` [B, 3, R, R] in [-1, 1]. Raises WeightsError when the weights have no restyle encoder."""
        import torch

        from stkit.plugin import Latents, encode_iteratively, load_generator, load_psp_encoder, resize_batch

        weights, device = context.weights, context.device
        encoder = load_psp_encoder(weights, "restyle", device)
        images = resize_batch(crops.to(device), encoder.config.input_resolution)
        with torch.inference_mode():
            passes = encode_iteratively(encoder, load_generator(weights, device), images, options.iterations)
        return Latents(passes[-1].clone(), weights.space)


__all__ = ["ReStyle", "ReStyleOptions"]
