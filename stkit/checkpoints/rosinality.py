"""rosinality/stylegan2-pytorch generators: keys renamed and reshaped, shapes give the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stkit.errors import WeightsError
from stkit.models.stylegan2 import GeneratorConfig


def infer_rosinality_generator(state: Mapping[str, Tensor]) -> GeneratorConfig:
    """The configuration of a rosinality generator, from the shapes of its tensors."""
    rgbs = 1 + sum(key.startswith("to_rgbs.") and key.endswith(".conv.weight") for key in state)
    resolution = 2 ** (rgbs + 1)
    layers = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    try:
        w_dim, z_dim = state["style.1.weight"].shape
        widest = state["input.input"].shape[1]
        last = state[f"convs.{2 * rgbs - 3}.conv.weight"].shape[1]
    except KeyError as error:
        raise WeightsError(f"not a rosinality generator: {error.args[0]} is missing") from None
    return GeneratorConfig(resolution, z_dim, w_dim, layers, channel_base=last * resolution, channel_max=widest)


def convert_rosinality_generator(state: Mapping[str, Tensor], latent_avg: Tensor) -> dict[str, Tensor]:
    """A rosinality `g_ema` state as a state of `stkit.models.stylegan2.Generator`.

    Raises WeightsError when a tensor is left over that is not a fixed kernel.
    """
    out = {"w_avg": latent_avg.reshape(-1)}
    for key, value in state.items():
        if key.endswith("kernel"):
            continue  # the 1-3-3-1 filter, a constant here
        out.update([_rename(key, value)])
    return out


def _rename(key: str, value: Tensor) -> tuple[str, Tensor]:
    parts = key.split(".")
    match parts:
        case ["style", index, name]:
            return f"mapping.layers.{int(index) - 1}.{name}", value
        case ["input", "input"]:
            return "synthesis.const", value[0]
        case ["noises", name]:
            return f"synthesis.convs.{name.removeprefix('noise_')}.noise_const", value[0, 0]
        case ["conv1", *rest]:
            return _layer("synthesis.convs.0", rest, value)
        case ["convs", index, *rest]:
            return _layer(f"synthesis.convs.{int(index) + 1}", rest, value)
        case ["to_rgb1", *rest]:
            return _layer("synthesis.to_rgbs.0", rest, value)
        case ["to_rgbs", index, *rest]:
            return _layer(f"synthesis.to_rgbs.{int(index) + 1}", rest, value)
    raise WeightsError(f"not a rosinality generator: unexpected tensor {key} {tuple(value.shape)}")


def _layer(prefix: str, rest: list[str], value: Tensor) -> tuple[str, Tensor]:
    match rest:
        case ["conv", "weight"]:
            return f"{prefix}.weight", value[0]
        case ["conv", "modulation", name]:
            return f"{prefix}.affine.{name}", value
        case ["noise", "weight"]:
            return f"{prefix}.noise_strength", value.reshape(())
        case ["activate", "bias"] | ["bias"]:
            return f"{prefix}.bias", value.reshape(-1)
    raise WeightsError(f"not a rosinality generator: unexpected tensor {prefix} {'.'.join(rest)}")


__all__ = ["convert_rosinality_generator", "infer_rosinality_generator"]
