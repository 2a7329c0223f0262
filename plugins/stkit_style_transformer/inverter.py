"""From crops to w_plus in one forward pass of the Style Transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import InversionContext, Inverter, Options

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class StyleTransformerInverter(Inverter[Options]):
    """Hu et al., "Style Transformer for Image Inversion and Editing", CVPR 2022."""

    name = "style-transformer"
    description = "encoder: queries born in W attend to image features, one pass (Hu et al., CVPR 2022)"

    def invert(self, crops: torch.Tensor, options: Options, context: InversionContext) -> Latents:
        """w_plus of `crops` [B, 3, R, R] in [-1, 1]. Raises WeightsError when the weights have no such inverter."""
        import torch

        from stkit.plugin import Latents, freeze_style_transformer, load_style_transformer, resize_batch

        weights = context.weights
        model = load_style_transformer(weights, context.device)
        on_cpu = context.device.type == "cpu"
        network = weights.keep("frozen inverter", lambda: freeze_style_transformer(model)) if on_cpu else model
        with torch.inference_mode():
            codes = network(resize_batch(crops.to(context.device), model.config.input_resolution))
        return Latents(codes.clone(), weights.space)


__all__ = ["StyleTransformerInverter"]
