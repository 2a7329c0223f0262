"""Editing along the principal components of w."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from stkit.editing import Attribute, EditContext, EditingMethod, find_attribute
from stkit.options import Options

if TYPE_CHECKING:
    from stkit.latents import Latents
    from stkit_ganspace.components import Components


class GANSpaceOptions(Options):
    """Options of ganspace."""

    relative: bool = pydantic.Field(
        default=False, description="move the photo's coordinate to STRENGTH instead of by STRENGTH"
    )


class GANSpace(EditingMethod[GANSpaceOptions]):
    """Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", NeurIPS 2020, in W.

    The components come from the mapping network's own samples, need no labels, and are computed
    once for each generator. Strength 1.0 is one standard deviation of w along the component.
    """

    name = "ganspace"
    description = "principal components of w: pc1, pc2, ... (no labels needed)"
    paper = "Härkönen et al., GANSpace: Discovering Interpretable GAN Controls, NeurIPS 2020"
    Options = GANSpaceOptions

    def attributes(self, context: EditContext) -> list[Attribute]:
        """pc1 (the largest) to the last component kept."""
        components = self._components(context)
        return [
            Attribute(f"pc{i + 1}", f"component {i + 1}, {100 * share:.1f}% of the variance of w", safe)
            for i, (share, safe) in enumerate(zip(components.shares, components.safe_ranges, strict=True))
        ]

    def edit(self, latents: Latents, options: GANSpaceOptions, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] moved along the component in the chosen layers (all by default)."""
        attribute = find_attribute(self, context)
        components = self._components(context)
        index = int(attribute.name.removeprefix("pc")) - 1
        codes = latents.codes.clone()
        layers = context.layer_indices(codes.shape[1])
        direction = components.directions[index].to(codes)
        step = components.stds[index].to(codes) * context.strength
        if options.relative:
            offsets = codes[:, layers] - components.mean.to(codes)
            step = step - offsets.mean(1, keepdim=True) @ direction[:, None]
        codes[:, layers] += step * direction
        return latents.replace(codes, edit=f"ganspace:{attribute.name}={context.strength:+g}")

    def _components(self, context: EditContext) -> Components:
        from stkit_ganspace.components import load_components

        return load_components(context.weights)


__all__ = ["GANSpace", "GANSpaceOptions"]
