"""From crops to w_plus in one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stkit.plugin import InversionContext, Inverter, Options

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class PSP(Inverter[Options]):
    """Richardson et al., "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation" (pSp), CVPR 2021."""

    name = "psp"
    description = "encoder: a map2style network for each layer of a feature pyramid (Richardson et al., CVPR 2021)"
    architecture: ClassVar[Literal["psp", "e4e"]] = "psp"
    """What the header of its encoder says."""

    def invert(self, crops: torch.Tensor, options: Options, context: InversionContext) -> Latents:
        """w_plus of `crops` [B, 3, R, R] in [-1, 1]. Raises WeightsError when the weights have no such encoder."""
        import torch

        from stkit.plugin import Latents, load_psp_encoder, resize_batch

        encoder = load_psp_encoder(context.weights, self.architecture, context.device)
        with torch.inference_mode():
            codes = encoder(resize_batch(crops.to(context.device), encoder.config.input_resolution))
        return Latents(codes.clone(), context.weights.space)


__all__ = ["PSP"]
