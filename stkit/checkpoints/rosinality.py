"""rosinality/stylegan2-pytorch generators, also as the decoders of pSp's family: renamed and reshaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stkit.checkpoints.generators import (
    Places,
    check_filters,
    config_of,
    fir_filter,
    generator_part,
    generator_shapes,
    mean_latent,
)
from stkit.checkpoints.layout import Entry, Recognised, Shape, State, give, take
from stkit.checkpoints.reading import Checkpoint
from stkit.models.shapes import StyleGAN2Config


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """A `.pt` with `g_ema`, converted or as trained, or a bare state of the generator."""
    content = checkpoint.objects
    if not isinstance(content, dict):
        return None
    state: Any = content.get("g_ema") or content.get("g") or content
    if not isinstance(state, dict) or not {"style.1.weight", "input.input"} & state.keys():
        return None
    config = infer_rosinality_generator(state)
    average = content.get("latent_avg")
    trained = "g_optim" in content or "args" in content
    facts = {"tensors": "g_ema" if "g_ema" in content else "g" if "g" in content else "the file itself"}

    def convert() -> dict[str, Tensor]:
        return convert_rosinality_generator(state, average)

    return Recognised(
        family="rosinality",
        what=f"StyleGAN2 generator of rosinality/stylegan2-pytorch{', as trained' if trained else ''}",
        parts=(generator_part(config, convert),),
        facts={**facts, "average latent": "in the file" if average is not None else "computed on import"},
    )


def infer_rosinality_generator(state: State) -> StyleGAN2Config:
    """The configuration of a rosinality generator, from the shapes of its tensors. Raises WeightsError."""
    rgbs = 1 + sum(key.startswith("to_rgbs.") and key.endswith(".conv.weight") for key in state)
    layers = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    places = Places(
        z_dim=("style.1.weight", 1),
        w_dim=("style.1.weight", 0),
        const=("input.input", 1),
        image=("to_rgb1.conv.weight", 1),
        last=(f"convs.{2 * rgbs - 3}.conv.weight", 1),
    )
    return config_of(state, places, 2 ** (rgbs + 1), layers, "a rosinality generator that stkit knows")


def convert_rosinality_generator(state: State, latent_avg: Any = None) -> dict[str, Tensor]:
    """A rosinality `g_ema` state as a state of `stkit.models.stylegan2.Generator`.

    `w_avg` is there if `latent_avg` is given, and noise if the checkpoint has any. Raises WeightsError
    when a tensor is missing, left over or of another shape, or when a filter is not 1-3-3-1.
    """
    shapes = generator_shapes(infer_rosinality_generator(state))
    layout = rosinality_layout(shapes)
    if not any(key.startswith("noises.") for key in state):
        layout = {name: entry for name, entry in layout.items() if not name.endswith("noise_const")}
    filters = [key for key in state if key.endswith(".kernel")]
    out = take(layout, shapes, state, "rosinality generator", ignore=filters)
    check_filters(state, dict.fromkeys(filters, 4.0))
    if latent_avg is not None:
        out["w_avg"] = mean_latent(latent_avg)
    return out


def export_rosinality_generator(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A state of our generator as the content of a rosinality `.pt`: `{g_ema, latent_avg}`."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    state = give(rosinality_layout(shapes), tensors)
    for block in range(1, sum(name.startswith("synthesis.to_rgbs.") for name in shapes) // 4):
        state[f"convs.{2 * block - 2}.conv.blur.kernel"] = fir_filter(4.0)
        state[f"to_rgbs.{block - 1}.upsample.kernel"] = fir_filter(4.0)
    return {"g_ema": state, "latent_avg": tensors["w_avg"]}


def rosinality_layout(shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Places of our generator's tensors, of all but `w_avg`."""
    return {name: _entry(name, shape) for name, shape in shapes.items() if name != "w_avg"}


def _entry(name: str, shape: Shape) -> Entry:
    match name.split("."):
        case ["mapping", "layers", index, end]:
            return Entry(f"style.{int(index) + 1}.{end}", shape)
        case ["synthesis", "const"]:
            return Entry("input.input", (1, *shape))
        case ["synthesis", "convs", index, "noise_const"]:
            return Entry(f"noises.noise_{index}", (1, 1, *shape))
        case ["synthesis", "convs", index, *rest]:
            return _layer("conv1" if index == "0" else f"convs.{int(index) - 1}", rest, shape)
        case ["synthesis", "to_rgbs", index, "bias"]:
            return Entry(f"{_rgb(index)}.bias", (1, 3, 1, 1))
        case ["synthesis", "to_rgbs", index, *rest]:
            return _layer(_rgb(index), rest, shape)
    raise AssertionError(f"no place for {name}")


def _rgb(index: str) -> str:
    return "to_rgb1" if index == "0" else f"to_rgbs.{int(index) - 1}"


def _layer(prefix: str, rest: list[str], shape: Shape) -> Entry:
    match rest:
        case ["weight"]:
            return Entry(f"{prefix}.conv.weight", (1, *shape))
        case ["affine", end]:
            return Entry(f"{prefix}.conv.modulation.{end}", shape)
        case ["noise_strength"]:
            return Entry(f"{prefix}.noise.weight", (1,))
        case ["bias"]:
            return Entry(f"{prefix}.activate.bias", shape)
    raise AssertionError(f"no place for {prefix} {rest}")


__all__ = [
    "convert_rosinality_generator",
    "export_rosinality_generator",
    "infer_rosinality_generator",
    "recognise",
    "rosinality_layout",
]
