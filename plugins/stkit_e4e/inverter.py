"""From crops to w_plus in one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import InversionContext, Inverter, Options

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class E4E(Inverter[Options]):
    """Tov et al., "Designing an Encoder for StyleGAN Image Manipulation" (e4e), SIGGRAPH 2021."""

    name = "e4e"
    description = "encoder: one w and small offsets from it, for edits that hold (Tov et al., SIGGRAPH 2021)"

    def invert(self, crops: torch.Tensor, options: Options, context: InversionContext) -> Latents:
        """w_plus of `crops` [B, 3, R, R] in [-1, 1]. Raises WeightsError when the weights have no e4e encoder."""
        import torch

        from stkit.plugin import Latents, load_psp_encoder, resize_batch

        encoder = load_psp_encoder(context.weights, "e4e", context.device)
        with torch.inference_mode():
            codes = encoder(resize_batch(crops.to(context.device), encoder.config.input_resolution))
        return Latents(codes.clone(), context.weights.space)


__all__ = ["E4E"]
