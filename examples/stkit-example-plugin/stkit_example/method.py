"""The method `blend`: part of the way to the mean picture, or to a random one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, find_attribute

if TYPE_CHECKING:
    import torch

    from stkit.plugin import Latents


class BlendOptions(Options):
    """Options of blend."""

    truncation: float = pydantic.Field(
        default=0.7, ge=0, le=1, description="truncation of the random picture; 0 is the mean one"
    )


class Blend(EditingMethod[BlendOptions]):
    """Linear interpolation in w_plus; towards the mean it is the truncation trick of StyleGAN."""

    name = "blend"
    description = "part of the way to the mean picture, or to a random one (--seed)"
    paper = "Karras et al., A Style-Based Generator Architecture for GANs, CVPR 2019 (the truncation trick)"
    Options = BlendOptions

    def attributes(self, context: EditContext) -> list[Attribute]:
        return [
            Attribute("mean", "strength 1 is the mean picture", (-0.5, 1.0)),
            Attribute("random", "strength 1 is the picture of --seed", (-0.5, 1.0)),
        ]

    def edit(self, latents: Latents, options: BlendOptions, context: EditContext) -> Latents:
        attribute = find_attribute(self, context)
        truncation = options.truncation if attribute.name == "random" else 0.0
        target = self._target(truncation, context).to(latents.codes)
        codes = latents.codes.clone()
        layers = context.layer_indices(codes.shape[1])
        codes[:, layers] += context.strength * (target[layers] - codes[:, layers])
        return latents.replace(codes, edit=f"blend:{attribute.name}={context.strength:+g}")

    def _target(self, truncation: float, context: EditContext) -> torch.Tensor:
        """The w_plus [num_ws, w_dim] of the picture of the context's seed."""
        import torch

        from stkit.plugin import load_generator

        generator = load_generator(context.weights, context.device)
        z = torch.randn(1, generator.config.z_dim, generator=torch.Generator().manual_seed(context.seed))
        with torch.no_grad():
            return generator.map(z.to(context.device), truncation)[0]
