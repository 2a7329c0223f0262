"""Editing single channels of StyleSpace."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import Attribute, EditContext, EditingMethod, Options, UsageError, WeightsError, find_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stkit.plugin import Latents

logger = logging.getLogger("stkit")


class StyleSpaceOptions(Options):
    """Options of stylespace."""

    rank: int = pydantic.Field(
        default=1, ge=1, description="which of the channels ranked for the attribute, 1 the best"
    )


class StyleSpace(EditingMethod[StyleSpaceOptions]):
    """Wu et al., "StyleSpace Analysis: Disentangled Controls for StyleGAN Image Generation", CVPR 2021.

    An attribute is one that channels were ranked for (`stkit rank-channels`), or a channel by the paper's name,
    `LAYER_CHANNEL`. The edit is carried by the latents' `style_offsets`; the codes stay. Strength 1.0 is one standard
    deviation of the channel: of the labelled codes for a ranked one, otherwise of the generator's samples.
    """

    name = "stylespace"
    description = "single style channels: ranked for an attribute (stkit rank-channels), or any as LAYER_CHANNEL"
    paper = "Wu et al., StyleSpace Analysis: Disentangled Controls for StyleGAN Image Generation, CVPR 2021"
    Options = StyleSpaceOptions

    def attributes(self, context: EditContext) -> list[Attribute]:
        """What channels were ranked for, with the safe range of the best; any LAYER_CHANNEL can be edited too."""
        from stkit_stylespace.channels import find_rankings, load_ranking

        found = []
        for name in find_rankings(context.weights):
            try:
                ranking, header = load_ranking(context.weights, name)
            except WeightsError as error:
                if name == context.attribute:
                    raise
                logger.warning("%s", error)
                continue
            low, high = ranking.limits[0].tolist()
            text = f"channels {', '.join(header.config['channels'][:5])}, best first"
            found.append(Attribute(name, text, (round(low, 1), round(high, 1))))
        return found

    def files(self, context: EditContext) -> Sequence[Path]:
        """The ranking of the attribute."""
        from stkit.plugin import file_of
        from stkit_stylespace.channels import KIND

        return file_of(context.weights, context.attribute, KIND)

    def edit(self, latents: Latents, options: StyleSpaceOptions, context: EditContext) -> Latents:
        """The same codes with one channel's offset changed; with --layers only when the channel belongs to them."""
        import torch

        from stkit_stylespace.channels import channel_name, layer_of, style_layers

        layers = style_layers(context.weights)
        wanted = context.layer_indices(latents.codes.shape[1])
        channel, step, label = self._channel(context, options)
        total = sum(layer.width for layer in layers)
        offsets = torch.zeros(len(latents), total) if latents.style_offsets is None else latents.style_offsets.clone()
        layer = layer_of(layers, channel)
        if layer.w_layer in wanted:
            offsets[:, channel] += context.strength * step
        else:
            name = channel_name(layers, channel)
            logger.warning("channel %s is steered by layer %d, which is not in --layers", name, layer.w_layer)
        edit = f"stylespace:{label}={context.strength:+g}"
        return latents.replace(latents.codes.clone(), edit, style_offsets=offsets)

    def _channel(self, context: EditContext, options: StyleSpaceOptions) -> tuple[int, float, str]:
        """Place of the channel, signed size of one unit of strength, and the channel's label."""
        from stkit_stylespace.channels import find_channel, load_ranking, sampled_unit, style_layers

        channel = find_channel(style_layers(context.weights), context.attribute or "")
        if channel is not None:
            return channel, sampled_unit(context.weights, channel), str(context.attribute)
        if context.attribute and not self.attributes(context):
            raise UsageError(
                f"no channels are ranked for '{context.attribute}', nor for anything else, with weights "
                f"'{context.weights.name}': rank some with `stkit rank-channels`, or name one as LAYER_CHANNEL"
            )
        name = find_attribute(self, context).name
        ranking, header = load_ranking(context.weights, name)
        if options.rank > len(ranking.channels):
            raise UsageError(
                f"{len(ranking.channels)} channels are ranked for '{name}'; there is no rank {options.rank}, give "
                f"-o rank=1 to {len(ranking.channels)}"
            )
        place = options.rank - 1
        step = float(ranking.signs[place] * ranking.units[place])
        return int(ranking.channels[place]), step, f"{name}:{header.config['channels'][place]}"


__all__ = ["StyleSpace", "StyleSpaceOptions"]
