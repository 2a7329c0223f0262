"""NVIDIA's StyleGAN2 in torch: pickles of stylegan2-ada-pytorch and stylegan3, and bare states of the generator.

Such a pickle holds the source code of its classes, to be executed on loading. Here it stays text: `wrapping` walks
to the tensors through the modules' `_parameters`, `_buffers` and `_modules`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from torch import Tensor

from stkit.checkpoints.generators import Places, check_filters, config_of, fir_filter, generator_part, generator_shapes
from stkit.checkpoints.layout import Entry, Recognised, Shape, State, give, take
from stkit.checkpoints.reading import Checkpoint
from stkit.errors import WeightsError
from stkit.models.shapes import StyleGAN2Config
from stkit.moved import renamed


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """A pickle with `G_ema`, or a state with NVIDIA's names."""
    content = checkpoint.objects
    if not isinstance(content, dict):
        return None
    source = next((name for name in ("G_ema", "G") if isinstance(content.get(name), dict)), "")
    state: State = content[source] if source else content
    if "synthesis.input.freqs" in state or any(key.startswith("synthesis.L0_") for key in state):
        raise WeightsError(
            f"{checkpoint.path} is a StyleGAN3 generator; stkit runs StyleGAN2, for which the same project has weights"
        )
    if "synthesis.b4.const" not in state:
        return None
    config = infer_nvidia_generator(state)
    return Recognised(
        family="nvidia",
        what="StyleGAN2 generator of NVIDIA's stylegan2-ada-pytorch or stylegan3 project",
        parts=(generator_part(config, lambda: convert_nvidia_generator(state)),),
        facts={"tensors": source or "a state of the generator"},
    )


def infer_nvidia_generator(state: State) -> StyleGAN2Config:
    """The configuration of NVIDIA's generator, from the shapes of its tensors. Raises WeightsError."""
    resolution = max(int(found[1]) for key in state if (found := re.match(r"synthesis\.b(\d{1,5})\.", key)))
    layers = sum(re.fullmatch(r"mapping\.fc\d+\.weight", key) is not None for key in state)
    places = Places(
        z_dim=("mapping.fc0.weight", 1),
        w_dim=(f"mapping.fc{layers - 1}.weight", 0),
        const=("synthesis.b4.const", 0),
        image=("synthesis.b4.torgb.weight", 0),
        last=(f"synthesis.b{resolution}.conv1.weight", 0),
        label=("mapping.embed.weight", 1),
    )
    return config_of(state, places, resolution, layers, "an NVIDIA generator")


def convert_nvidia_generator(state: State) -> dict[str, Tensor]:
    """A state of NVIDIA's generator as one of `stkit.models.stylegan2.Generator`.

    Raises WeightsError when a tensor is missing, left over or of another shape, or when a filter is
    not 1-3-3-1.
    """
    shapes = generator_shapes(infer_nvidia_generator(state))
    layout = nvidia_layout(shapes)
    if "mapping.w_avg" not in state:
        del layout["w_avg"]
    filters = [key for key in state if key.endswith("resample_filter")]
    out = take(layout, shapes, state, "StyleGAN2 generator of NVIDIA's", ignore=filters)
    check_filters(state, dict.fromkeys(filters, 1.0))
    return out


def export_nvidia_generator(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of our generator as one that NVIDIA's `Generator.load_state_dict` takes, strictly."""
    layout = nvidia_layout({name: tuple(value.shape) for name, value in tensors.items()})
    state = give(layout, tensors)
    blocks = {entry.key.rsplit(".", 2)[0] for entry in layout.values() if entry.key.endswith(".torgb.bias")}
    layers = {entry.key.removesuffix(".noise_const") for entry in layout.values() if "noise_const" in entry.key}
    for owner in sorted(blocks | layers):
        state[f"{owner}.resample_filter"] = fir_filter(1.0)
    return state


def nvidia_layout(shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Places of our generator's tensors."""
    return {name: Entry(_key(name), shape) for name, shape in shapes.items()}


def _key(name: str) -> str:
    match name.split("."):
        case ["w_avg"]:
            return "mapping.w_avg"
        case ["mapping", "layers", index, end]:
            return f"mapping.fc{index}.{end}"
        case ["synthesis", "const"]:
            return "synthesis.b4.const"
        case ["synthesis", "convs", number, *rest]:
            layer = "conv0" if int(number) % 2 else "conv1"
            return ".".join([f"synthesis.b{4 * 2 ** ((int(number) + 1) // 2)}", layer, *rest])
        case ["synthesis", "to_rgbs", block, *rest]:
            return ".".join([f"synthesis.b{4 * 2 ** int(block)}", "torgb", *rest])
    raise AssertionError(f"no place for {name}")


__getattr__ = functools.partial(renamed, __name__)

__all__ = [
    "convert_nvidia_generator",
    "export_nvidia_generator",
    "infer_nvidia_generator",
    "nvidia_layout",
    "recognise",
]
