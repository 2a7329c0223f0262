"""Checkpoints of the official Style Transformer (sapphire497/style-transformer)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_RENAMED = {
    "input_layer": "backbone.input_layer",
    "body": "backbone.body",
    "latlayer1": "lateral_medium",
    "latlayer2": "lateral_fine",
    "transformerlayer_coarse": "stages.0",
    "transformerlayer_medium": "stages.1",
    "transformerlayer_fine": "stages.2",
    "z": "z",
}


def convert_style_transformer(state: Mapping[str, Tensor], latent_avg: Tensor) -> dict[str, Tensor]:
    """The `state_dict` of an official checkpoint as a state of `stkit.models.style_transformer.StyleTransformer`.

    The mapping network that the queries go through is the checkpoint's own (`decoder.module.style`).
    """
    out = {"latent_avg": latent_avg.reshape(-1)}
    for key, value in state.items():
        side, _, rest = key.partition(".module.")
        head, _, tail = rest.partition(".")
        if side == "encoder" and head in _RENAMED:
            out[".".join(filter(None, [_RENAMED[head], tail]))] = value
        elif side == "decoder" and head == "style":
            index, name = tail.split(".")
            out[f"mapping.layers.{int(index) - 1}.{name}"] = value
    return out


__all__ = ["convert_style_transformer"]
