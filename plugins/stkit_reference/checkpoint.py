"""The official Style Transformer's edit model: a reference block beside the latent classifier it was trained with."""

from __future__ import annotations

import dataclasses

import torch
from stkit_label.network import LatentClassifier, LatentClassifierConfig
from torch import Tensor

from stkit.plugin import (
    Checkpoint,
    Entry,
    Framework,
    Part,
    Recognised,
    State,
    StyleGAN2,
    StyleGAN2Config,
    TensorShape,
    WeightsError,
    read_framework,
    state_shapes,
    take_tensors,
)
from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig

CELEBA_ATTRIBUTES = (
    "5_o_clock_shadow", "arched_eyebrows", "attractive", "bags_under_eyes", "bald", "bangs", "big_lips", "big_nose",
    "black_hair", "blond_hair", "blurry", "brown_hair", "bushy_eyebrows", "chubby", "double_chin", "eyeglasses",
    "goatee", "gray_hair", "heavy_makeup", "high_cheekbones", "male", "mouth_slightly_open", "mustache",
    "narrow_eyes", "no_beard", "oval_face", "pale_skin", "pointy_nose", "receding_hairline", "rosy_cheeks",
    "sideburns", "smiling", "straight_hair", "wavy_hair", "wearing_earrings", "wearing_hat", "wearing_lipstick",
    "wearing_necklace", "wearing_necktie", "young",
)  # fmt: skip
"""The 40 attributes of CelebA (Liu et al., ICCV 2015) in the order of its list, which the classifier keeps."""

_SAMPLES = 4096


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """A file with the classifier or the block, its decoder beside them."""
    framework = read_framework(checkpoint)
    if framework is None or "decoder" not in framework.networks:
        return None
    networks = framework.networks
    parts = [framework.generator()]
    if "output_fcs.0.weight" in networks.get("classifier", {}):
        parts.append(_classifier_part(framework))
    if "transformerlayer.linear1.weight" in networks.get("encoder", {}):
        parts.append(_block_part(framework))
    if len(parts) == 1:
        return None
    return Recognised(
        family="style-transformer",
        what="official Style Transformer (Hu et al., CVPR 2022), edit model",
        parts=tuple(parts),
        facts={"attributes": f"{len(CELEBA_ATTRIBUTES)} of CelebA in the classifier; which one the block carries "
               "over is not in the file"},
    )  # fmt: skip


def _classifier_part(framework: Framework) -> Part:
    state = framework.networks["classifier"]
    count = sum(key.startswith("output_fcs.") and key.endswith(".weight") for key in state)
    hidden = sum(key.startswith("fcs.") and key.endswith(".weight") for key in state)
    names = CELEBA_ATTRIBUTES if count == len(CELEBA_ATTRIBUTES) else tuple(f"attribute{i}" for i in range(count))
    config = LatentClassifierConfig(
        attributes=names,
        num_ws=framework.num_ws,
        w_dim=_w_dim(framework),
        widths=tuple(int(state[f"fcs.{i}.weight"].shape[0]) for i in range(hidden)),
        embedding=int(state["output_fcs.0.weight"].shape[1]),
    )
    return Part(
        kind="classifier",
        architecture="latent-classifier",
        config=dataclasses.asdict(config),
        convert=lambda: convert_classifier(state, config, _samples(framework)),
    )


def convert_classifier(state: State, config: LatentClassifierConfig, codes: Tensor) -> dict[str, Tensor]:
    """The official classifier as a state of `LatentClassifier`, calibrated on `codes` [N, num_ws, w_dim].

    Raises WeightsError when a tensor is missing, left over or of another shape.
    """
    count, wide, small = len(config.attributes), config.widths[-1], config.embedding
    shapes: dict[str, TensorShape] = {}
    sizes = [config.num_ws * config.w_dim, *config.widths]
    for i, width in enumerate(config.widths):
        shapes |= {f"fcs.{i}.weight": (width, sizes[i]), f"fcs.{i}.bias": (width,)}
    for i in range(count):
        shapes |= {f"indep_fcs.{i}.weight": (small, wide), f"indep_fcs.{i}.bias": (small,)}
        shapes |= {f"output_fcs.{i}.weight": (1, small), f"output_fcs.{i}.bias": (1,)}
    theirs = take_tensors(
        {name: Entry(name, shape) for name, shape in shapes.items()}, shapes, state, "latent classifier"
    )
    classifier = LatentClassifier(config)
    ours = classifier.state_dict()
    for i in range(len(config.widths)):
        for end in ("weight", "bias"):
            ours[f"trunk.{3 * i}.{end}"] = theirs[f"fcs.{i}.{end}"]
    for end in ("weight", "bias"):
        ours[f"embeddings.{end}"] = torch.cat([theirs[f"indep_fcs.{i}.{end}"] for i in range(count)])
        ours[f"head_{end}"] = torch.cat([theirs[f"output_fcs.{i}.{end}"] for i in range(count)])
    classifier.load_state_dict(ours)
    classifier.calibrate(codes)
    return dict(classifier.state_dict())


def _block_part(framework: Framework) -> Part:
    state = framework.networks["encoder"]
    config = ReferenceBlockConfig(
        attributes=("transferred",),
        num_ws=framework.num_ws,
        w_dim=_w_dim(framework),
        feedforward=int(state["transformerlayer.linear1.weight"].shape[0]),
        offset=False,
    )
    return Part(
        kind="reference",
        architecture="reference-block",
        config=dataclasses.asdict(config),
        convert=lambda: convert_reference_block(state, config),
    )


def convert_reference_block(state: State, config: ReferenceBlockConfig) -> dict[str, Tensor]:
    """The official block as a state of `ReferenceBlock`: no tokens, no centring, codes straight from the layer.

    Raises WeightsError when a tensor is missing, left over or of another shape.
    """
    shapes = state_shapes(lambda: ReferenceBlock(config))
    layout = {
        name: Entry(f"transformerlayer.{name.removeprefix('layer.')}", shape)
        for name, shape in shapes.items()
        if name.startswith("layer.")
    }
    out = take_tensors(layout, shapes, state, "reference block")
    fresh = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in out}
    return {**out, **fresh, "output.weight": torch.eye(config.w_dim), "code_std": torch.ones(())}


def _w_dim(framework: Framework) -> int:
    return int(framework.generator().config["w_dim"])


def _samples(framework: Framework) -> Tensor:
    """Codes [N, num_ws, w_dim] of random images, truncated like what edits usually start from."""
    part = framework.generator()
    generator = StyleGAN2(StyleGAN2Config(**part.config)).requires_grad_(False)
    try:
        generator.load_state_dict(part.convert())
    except RuntimeError as error:
        raise WeightsError(f"the decoder does not fit its own shapes: {str(error).splitlines()[-1].strip()}") from None
    z = torch.randn(_SAMPLES, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    return generator.map(z, truncation_psi=0.7)


__all__ = ["CELEBA_ATTRIBUTES", "convert_classifier", "convert_reference_block", "recognise"]
