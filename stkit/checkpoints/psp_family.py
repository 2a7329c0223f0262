"""Checkpoints of pSp, e4e and ReStyle: `{state_dict, opts[, latent_avg]}` with an encoder and its decoder.

pSp's and e4e's files have the same keys and shapes, as have ReStyle's two kinds: `opts.encoder_type` tells.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast

from torch import Tensor

from stkit.checkpoints.encoders import Framework, infer_backbone, read_framework
from stkit.checkpoints.layout import Entry, Part, Recognised, size_of, state_shapes, take
from stkit.checkpoints.reading import Checkpoint
from stkit.checkpoints.stored import as_tensor
from stkit.errors import WeightsError
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig

_PLAIN = {"GradualStyleEncoder", "BackboneEncoder", "ResNetBackboneEncoder"}
_PROGRESSIVE = {"Encoder4Editing", "ProgressiveBackboneEncoder", "ResNetProgressiveBackboneEncoder"}
_PAPERS = {
    "psp": "pSp (Richardson et al., CVPR 2021)",
    "e4e": "e4e (Tov et al., SIGGRAPH 2021)",
    "restyle": "ReStyle (Alaluf et al., ICCV 2021)",
}


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """An encoder with map2style blocks, and its decoder if the file has it."""
    framework = read_framework(checkpoint)
    if framework is None or not any(key.startswith("styles.0.convs.") for key in framework.networks.get("encoder", {})):
        return None
    config = infer_psp_encoder(framework)
    kind = config.architecture
    encoder = Part(
        kind="inverter",
        architecture=kind,
        config=dataclasses.asdict(config),
        convert=lambda: convert_psp_encoder(framework, config),
    )
    over = "" if kind != "restyle" else " over e4e" if config.progressive else " over pSp"
    return Recognised(
        family="psp",
        what=f"encoder of {_PAPERS[kind]}{over}{' and its generator' if 'decoder' in framework.networks else ''}",
        parts=((framework.generator(), encoder) if "decoder" in framework.networks else (encoder,)),
        facts={"encoder_type": str(framework.opts.get("encoder_type", "not in the file, taken for pSp's"))[:60]},
    )


def infer_psp_encoder(framework: Framework) -> PSPEncoderConfig:
    """The configuration of an encoder, from shapes and `opts`. Raises WeightsError for kinds that stkit lacks."""
    state, opts = framework.networks["encoder"], framework.opts
    encoder_type = opts.get("encoder_type", "GradualStyleEncoder")
    if encoder_type not in _PLAIN | _PROGRESSIVE:
        raise WeightsError(f"an encoder of type {str(encoder_type)[:60]}, which stkit does not have")
    first = "conv1.weight" if "conv1.weight" in state else "input_layer.0.weight"
    depths, widths = infer_backbone(state)
    what = "an encoder that stkit knows"
    in_channels = size_of(state, first, 1, what)
    num_ws = 1 + max(int(found[1]) for key in state if (found := re.match(r"styles\.(\d{1,9})\.", key)))
    style_channels = size_of(state, "styles.0.convs.0.weight", 0, what)
    w_dim = size_of(state, "styles.0.linear.weight", 0, what)
    if in_channels not in (3, 6):
        raise WeightsError(f"an encoder of {in_channels} input channels, for sketches or label maps and not photos")
    return PSPEncoderConfig(
        num_ws=num_ws,
        w_dim=w_dim,
        style_channels=style_channels,
        pyramid="latlayer1.weight" in state,
        progressive=encoder_type in _PROGRESSIVE,
        iterations=_iterations(opts) if in_channels == 6 else 1,
        backbone="resnet" if first == "conv1.weight" else "ir-se",
        depths=depths,
        widths=widths,
        resize="average" if in_channels == 6 else "bilinear",
    )


def _iterations(opts: Any) -> int:
    count = opts.get("n_iters_per_batch", 5)
    return count if isinstance(count, int) and 2 <= count <= 20 else 5


def convert_psp_encoder(framework: Framework, config: PSPEncoderConfig) -> dict[str, Tensor]:
    """The encoder as a state of `stkit.models.psp_encoders.PSPEncoder`, whose names are the checkpoints' own.

    `latent_avg` gets a row a style; it is zero for models trained without `start_from_latent_avg`.
    Raises WeightsError when a tensor is missing, left over or of another shape.
    """
    shapes = state_shapes(lambda: PSPEncoder(config))
    average = shapes.pop("latent_avg")
    layout = {name: Entry(name, shape) for name, shape in shapes.items()}
    out = take(layout, shapes, framework.networks["encoder"], f"{config.architecture} encoder")
    if framework.opts.get("start_from_latent_avg", True) is False:
        out["latent_avg"] = as_tensor(out["styles.0.linear.bias"]).new_zeros(average)
    elif tuple(getattr(framework.latent_avg, "shape", ())) == average:
        out["latent_avg"] = as_tensor(cast("Tensor", framework.latent_avg)).float()
    else:
        mean = framework.average()
        if tuple(mean.shape) != average[-1:]:
            raise WeightsError(f"its average latent has the shape {tuple(mean.shape)}, and its codes {average[-1:]}")
        out["latent_avg"] = mean.expand(average).contiguous()
    return out


__all__ = ["convert_psp_encoder", "infer_psp_encoder", "recognise"]
