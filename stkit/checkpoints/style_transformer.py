"""Checkpoints of the official Style Transformer (sapphire497/style-transformer)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from stkit.checkpoints.encoders import Framework, infer_backbone, read_framework
from stkit.checkpoints.generators import mean_latent
from stkit.checkpoints.layout import Entry, Part, Recognised, Shape, State, state_shapes, take
from stkit.checkpoints.reading import Checkpoint
from stkit.checkpoints.stored import StoredTensor
from stkit.errors import UsageError, WeightsError
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig

_RENAMED = {
    "backbone.input_layer": "input_layer",
    "backbone.body": "body",
    "lateral_medium": "latlayer1",
    "lateral_fine": "latlayer2",
    "stages.0": "transformerlayer_coarse",
    "stages.1": "transformerlayer_medium",
    "stages.2": "transformerlayer_fine",
    "z": "z",
}


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """The inversion model: an encoder with queries `z` beside its decoder."""
    framework = read_framework(checkpoint)
    if framework is None or "z" not in framework.networks.get("encoder", {}):
        return None
    if "decoder" not in framework.networks:
        raise WeightsError(f"{checkpoint.path} lacks the decoder, whose mapping network the queries go through")
    config = infer_style_transformer(framework)
    state = _joined(framework)

    def convert() -> dict[str, Tensor]:
        return convert_style_transformer(state, framework.average(), config)

    return Recognised(
        family="style-transformer",
        what="official Style Transformer (Hu et al., CVPR 2022), inversion model",
        parts=(
            framework.generator(),
            Part("inverter", "style-transformer", dataclasses.asdict(config), convert),
        ),
        facts={"queries": f"{config.num_queries}, of which {config.num_ws} give codes"},
        notes=(
            "its mapping network was fine-tuned for the queries: for samples as the original generator gives them, "
            "name that generator's file with --generator",
        ),
    )


def infer_style_transformer(framework: Framework) -> StyleTransformerConfig:
    """The configuration of an official encoder, from shapes; 4 heads and an input of 256 px are the paper's."""
    encoder = framework.networks["encoder"]
    depths, widths = infer_backbone(encoder)
    mapping_layers = sum(k.startswith("style.") and k.endswith(".weight") for k in framework.networks["decoder"])
    try:
        return StyleTransformerConfig(
            num_ws=framework.num_ws,
            num_queries=encoder["z"].shape[1],
            d_model=encoder["z"].shape[2],
            feedforward=encoder["transformerlayer_coarse.linear1.weight"].shape[0],
            mapping_layers=mapping_layers,
            depths=depths,
            widths=widths,
        )
    except (KeyError, IndexError, UsageError) as error:
        raise WeightsError(f"not a Style Transformer that stkit knows: {error}") from None


def convert_style_transformer(
    state: State, latent_avg: StoredTensor | Tensor, config: StyleTransformerConfig | None = None
) -> dict[str, Tensor]:
    """The `state_dict` of an official checkpoint as a state of `stkit.models.style_transformer.StyleTransformer`.

    The mapping network that the queries go through is the checkpoint's own (`decoder.style`). Raises
    WeightsError when a tensor of the encoder is missing, left over or of another shape.
    """
    state = {key.replace(".module.", "."): value for key, value in state.items()}
    shapes = state_shapes(lambda: StyleTransformer(config or StyleTransformerConfig()))
    layout = style_transformer_layout(shapes)
    others = [key for key in state if key.startswith("decoder.") and not key.startswith("decoder.style.")]
    out = take(layout, shapes, state, "Style Transformer", ignore=others)
    out["latent_avg"] = mean_latent(latent_avg)
    return out


def style_transformer_layout(shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Places of our Style Transformer's tensors, of all but `latent_avg`."""
    return {name: Entry(_key(name), shape) for name, shape in shapes.items() if name != "latent_avg"}


def _key(name: str) -> str:
    if name.startswith("mapping.layers."):
        index, end = name.removeprefix("mapping.layers.").split(".")
        return f"decoder.style.{int(index) + 1}.{end}"
    for ours, theirs in _RENAMED.items():
        if name == ours or name.startswith(ours + "."):
            return f"encoder.{theirs}{name.removeprefix(ours)}"
    raise AssertionError(f"no place for {name}")


def _joined(framework: Framework) -> dict[str, StoredTensor | Tensor]:
    return {
        f"{network}.{key}": value
        for network in ("encoder", "decoder")
        for key, value in framework.networks[network].items()
    }


__all__ = ["convert_style_transformer", "infer_style_transformer", "recognise", "style_transformer_layout"]
