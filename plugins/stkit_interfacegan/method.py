"""Editing along fitted directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, find_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stkit.plugin import Latents


class InterFaceGAN(EditingMethod[Options]):
    """Shen et al., "Interpreting the Latent Space of GANs for Semantic Face Editing", CVPR 2020.

    The attributes are the directions that were fitted (`stkit fit-direction`) or imported (`stkit directions
    import`) for the weights, and those shipped with them. Strength 1.0 is one standard deviation of the
    domain's latents along the direction.
    """

    name = "interfacegan"
    description = "directions of labelled attributes, fitted by linear SVM (stkit fit-direction)"
    paper = "Shen et al., Interpreting the Latent Space of GANs for Semantic Face Editing, CVPR 2020"
    preference = 2

    def attributes(self, context: EditContext) -> list[Attribute]:
        """The directions that fit the weights; one that does not is logged, and an error when it is asked for."""
        from stkit.plugin import usable_directions

        found = usable_directions(context.weights, context.attribute)
        return [Attribute(name, direction.description, direction.safe_range) for name, direction in found.items()]

    def files(self, context: EditContext) -> Sequence[Path]:
        """That of the direction."""
        from stkit.plugin import file_of

        return file_of(context.weights, context.attribute)

    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] moved along the direction, in --layers or else in the layers it was fitted for."""
        from stkit.plugin import find_direction

        attribute = find_attribute(self, context)
        direction = find_direction(context.weights, attribute.name)
        assert direction is not None
        return direction.edit(latents, context, self.name)


__all__ = ["InterFaceGAN"]
