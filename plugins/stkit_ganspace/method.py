"""Editing along the principal components of w."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, UsageError, find_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from stkit.plugin import Latents, Weights


class GANSpaceOptions(Options):
    """Options of ganspace."""

    relative: bool = pydantic.Field(
        default=False, description="move the photo's coordinate to STRENGTH instead of by STRENGTH"
    )


class GANSpace(EditingMethod[GANSpaceOptions]):
    """Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", NeurIPS 2020.

    pc1, pc2, ... are the principal components of w, which is what the paper does for StyleGAN. act1, act2, ... are
    those of the first convolution's activations, carried over to w by regression, which is what it does for other
    GANs. Both come from the generator's own samples, need no labels, and are computed once for each generator.
    Those that were named (`stkit name-component`) go by their names too. Strength 1.0 is one standard deviation of
    the component.
    """

    name = "ganspace"
    description = "principal components of w (pc1, pc2, ...) and of activations (act1, ...); no labels needed"
    paper = "Härkönen et al., GANSpace: Discovering Interpretable GAN Controls, NeurIPS 2020"
    sampled_kinds = ("ganspace",)
    Options = GANSpaceOptions

    def attributes(self, context: EditContext) -> list[Attribute]:
        """The named ones, pc1 (the largest) to the last component of w, then act1 to the last of the activations.

        The activations are fitted when one of them is asked for; until then nothing but the names is known.
        """
        from stkit.plugin import usable_directions
        from stkit_ganspace.components import load_components
        from stkit_ganspace.named import KIND

        components = load_components(context.weights)
        named = usable_directions(context.weights, context.attribute, KIND)
        found = [Attribute(name, component.description, component.safe_range) for name, component in named.items()]
        found += [
            Attribute(f"pc{i + 1}", f"component {i + 1}, {100 * share:.1f}% of the variance of w", safe)
            for i, (share, safe) in enumerate(zip(components.shares, components.safe_ranges, strict=True))
        ]
        if context.attribute in {attribute.name for attribute in found}:
            return found
        return found + _activation_attributes(context)

    def files(self, context: EditContext) -> Sequence[Path]:
        """That of a named component."""
        from stkit.plugin import file_of
        from stkit_ganspace.named import KIND

        return file_of(context.weights, context.attribute, KIND)

    def edit(self, latents: Latents, options: GANSpaceOptions, context: EditContext) -> Latents:
        """w_plus [B, num_ws, w_dim] moved along the component in the chosen layers (all by default)."""
        from stkit.plugin import find_direction
        from stkit_ganspace.named import KIND, parse_number

        attribute = find_attribute(self, context)
        if named := find_direction(context.weights, attribute.name, KIND):
            if options.relative:
                raise UsageError("option 'relative' is for the components of w (pc1, pc2, ...)")
            return named.edit(latents, context, self.name)
        directions, units, mean = self._basis(attribute.name, options, context)
        number = parse_number(attribute.name)
        assert number is not None  # these are the names that attributes() gives
        index = number[1] - 1
        codes = latents.codes.clone()
        layers = context.layer_indices(codes.shape[1])
        direction = directions[index].to(codes)
        step = units[index].to(codes) * context.strength
        if options.relative:
            offsets = codes[:, layers] - mean.to(codes)
            step = step - offsets.mean(1, keepdim=True) @ direction[:, None]
        codes[:, layers] += step * direction
        return latents.replace(codes, edit=f"ganspace:{attribute.name}={context.strength:+g}")

    def prepare(self, weights: Weights, device: torch.device) -> None:
        """Fit the components of w and keep them as the weights' own file."""
        from stkit_ganspace.components import STORED, fit_components

        STORED.save(weights.own_path(STORED.kind), fit_components(weights), weights)

    def _basis(self, name: str, options: GANSpaceOptions, context: EditContext) -> tuple[Tensor, Tensor, Tensor]:
        """Directions [K, w_dim], units [K] and mean [w_dim] of the components that `name` is one of."""
        from stkit_ganspace.activations import load_activations
        from stkit_ganspace.components import load_components

        components = load_components(context.weights)
        if name.startswith("pc"):
            return components.directions, components.stds, components.mean
        if options.relative:
            raise UsageError("option 'relative' is for the components of w (pc1, pc2, ...)")
        activations = load_activations(context.weights)
        return activations.directions, activations.units, components.mean


def _activation_attributes(context: EditContext) -> list[Attribute]:
    from stkit_ganspace.activations import STORED, count_activations, load_activations

    components = STORED.find(context.weights)
    if components is None:
        names = [f"act{i + 1}" for i in range(count_activations(context.weights))]
        if context.attribute not in names:
            return [Attribute(name, f"activation component {name[3:]}, fitted when it is first used") for name in names]
        components = load_activations(context.weights)
    return [
        Attribute(
            f"act{i + 1}",
            f"activation component {i + 1}, {100 * share:.1f}% of the variance of the first convolution",
            (round(low, 1), round(high, 1)),
        )
        for i, (share, (low, high)) in enumerate(
            zip(components.shares.tolist(), components.limits.tolist(), strict=True)
        )
    ]


__all__ = ["GANSpace", "GANSpaceOptions"]
