"""An attribute taken over from reference photos by a transformer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Attribute, EditContext, EditingMethod, LatentSpace, Options, UsageError, find_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stkit.plugin import Latents


class ReferenceEditing(EditingMethod[Options]):
    """Hu et al., "Style Transformer for Image Inversion and Editing", CVPR 2022: reference-based editing.

    Strength 1 is the block's full transfer, 0 none, and between and beyond them the offset is scaled. With
    several references the offsets that they give are averaged.
    """

    name = "reference"
    description = "an attribute of the --ref photos, carried over by a transformer block"
    paper = "Hu et al., Style Transformer for Image Inversion and Editing, CVPR 2022"
    needs_reference = True

    def attributes(self, context: EditContext) -> list[Attribute]:
        """What the weights' block can carry over. Raises WeightsError when there is none, or it does not fit."""
        from stkit.plugin import load_header, note_number
        from stkit_reference.network import load_reference_block

        block = load_reference_block(context.weights)
        notes = load_header(context.weights.path("reference")).notes
        found = []
        for name in block.config.attributes:
            share = note_number(notes, "held_out", name, "transfer")
            words = "" if share is None else f", {100 * share:.0f}% of the way on held-out photos"
            found.append(Attribute(name, f"as the reference has it{words}", (0.0, 1.5)))
        return found

    def files(self, context: EditContext) -> Sequence[Path]:
        """The block."""
        return [context.weights.path("reference")]

    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] towards the references' attribute, in the chosen layers (all by default).

        Raises UsageError without references or with ones that are not w_plus, LatentsError when they
        belong to another generator.
        """
        import torch

        from stkit_reference.network import load_reference_block

        attribute = find_attribute(self, context)
        references = context.references
        if references is None or not len(references):
            raise UsageError("method 'reference' needs a photo to take the attribute from; give one with --ref")
        references.require_generator(context.weights.space, context.weights.name)
        if references.space is not LatentSpace.W_PLUS:
            raise UsageError(f"method 'reference' takes w_plus references, and these are {references.space}")
        block = load_reference_block(context.weights, context.device)
        layers = context.layer_indices(latents.codes.shape[1])
        source = latents.codes.to(context.device)
        index = torch.full((len(source),), block.config.attributes.index(attribute.name), device=context.device)
        with torch.no_grad():
            moved = [
                block(source, reference.expand_as(source), index) - source
                for reference in references.codes.to(context.device)
            ]
        offset = torch.stack(moved).mean(0).to(latents.codes)
        codes = latents.codes.clone()
        codes[:, layers] += context.strength * offset[:, layers]
        return latents.replace(codes, edit=f"reference:{attribute.name}={context.strength:+g}")


__all__ = ["ReferenceEditing"]
