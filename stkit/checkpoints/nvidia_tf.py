"""NVIDIA's StyleGAN2 in TensorFlow: pickles of stylegan2 and stylegan2-ada, a tuple (G, D, Gs) of networks.

TensorFlow stores matrices and convolutions the other way round, the upsampling convolutions mirrored, and the
styles' biases without the 1 that is added to them (as NVIDIA's own converter, stylegan2-ada-pytorch/legacy.py, says).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from stkit.checkpoints.generators import Places, config_of, generator_part, generator_shapes
from stkit.checkpoints.layout import Entry, Recognised, Shape, State, take
from stkit.checkpoints.reading import Checkpoint
from stkit.checkpoints.stored import StoredTensor
from stkit.checkpoints.unpickle import Record
from stkit.checkpoints.walk import module_tensors
from stkit.errors import WeightsError
from stkit.models.shapes import StyleGAN2Config
from stkit.moved import renamed


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """A tuple of three networks, or one network; Gs, the last, is the averaged generator."""
    content = checkpoint.content
    network = content[-1] if isinstance(content, (tuple, list)) and content else content
    if not isinstance(network, Record) or not network.name.endswith("tflib.network.Network"):
        return None
    version = network.state.get("version") if isinstance(network.state, dict) else None
    if not isinstance(version, int) or version < 4:
        raise WeightsError(f"{checkpoint.path} is a network of the first StyleGAN; stkit runs StyleGAN2")
    state = network_tensors(network)
    if "synthesis/4x4/Const/const" not in state:
        raise WeightsError(f"{checkpoint.path} is a TensorFlow network of NVIDIA's, but no StyleGAN2 generator")
    config = infer_tf_generator(state)
    return Recognised(
        family="nvidia-tf",
        what="StyleGAN2 generator of NVIDIA's TensorFlow projects stylegan2 or stylegan2-ada",
        parts=(generator_part(config, lambda: convert_tf_generator(state)),),
        facts={"tensors": "Gs, the averaged generator"},
    )


def network_tensors(network: Record) -> dict[str, StoredTensor]:
    """The variables of a network and its components, by their names with those of the components before them.

    Raises WeightsError.
    """
    return module_tensors(network, _variables, _components, "/")


def _variables(network: Record) -> Iterator[tuple[Any, Any]]:
    """Names and values; a number is the training schedule's level of detail."""
    variables = _state(network).get("variables") or ()
    if not isinstance(variables, (tuple, list)):
        raise WeightsError("damaged: variables that are no list")
    for pair in variables:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise WeightsError("damaged: variables that are not pairs of name and value")
        yield pair[0], pair[1]


def _state(network: Record) -> Mapping[str, Any]:
    return network.state if isinstance(network.state, dict) else {}


def _components(network: Record) -> Iterable[tuple[Any, Any]]:
    components = _state(network).get("components")
    return components.items() if isinstance(components, dict) else ()


def infer_tf_generator(state: State) -> StyleGAN2Config:
    """The configuration of a TensorFlow generator, from the shapes of its variables. Raises WeightsError."""
    resolution = max(int(found[1]) for key in state if (found := re.match(r"synthesis/(\d{1,5})x\d+/", key)))
    layers = sum(re.fullmatch(r"mapping/Dense\d+/weight", key) is not None for key in state)
    label = next(
        (f"mapping/{name}/weight" for name in ("LabelConcat", "LabelEmbed") if f"mapping/{name}/weight" in state), ""
    )
    places = Places(
        z_dim=("mapping/Dense0/weight", 0),
        w_dim=(f"mapping/Dense{layers - 1}/weight", 1),
        const=("synthesis/4x4/Const/const", 1),
        image=("synthesis/4x4/ToRGB/weight", 3),
        last=(f"synthesis/{resolution}x{resolution}/Conv1/weight", 3),
        label=(label, 0),
    )
    return config_of(state, places, resolution, layers, "a TensorFlow StyleGAN2 generator")


def convert_tf_generator(state: State) -> dict[str, Tensor]:
    """Variables of a TensorFlow generator as a state of `stkit.models.stylegan2.Generator`.

    Raises WeightsError when a variable is missing, left over or of another shape.
    """
    shapes = generator_shapes(infer_tf_generator(state))
    layout = tf_layout(shapes)
    if "dlatent_avg" not in state:
        del layout["w_avg"]
    return take(layout, shapes, state, "TensorFlow StyleGAN2 generator", ignore=("lod", "synthesis/lod"))


def tf_layout(shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Places of our generator's tensors, with what it takes to convert them."""
    return {name: _entry(name, shape) for name, shape in shapes.items()}


def _entry(name: str, shape: Shape) -> Entry:
    match name.split("."):
        case ["w_avg"]:
            return Entry("dlatent_avg", shape)
        case ["mapping", "layers", index, "weight"]:
            return Entry(f"mapping/Dense{index}/weight", shape[::-1], _transpose)
        case ["mapping", "layers", index, "bias"]:
            return Entry(f"mapping/Dense{index}/bias", shape)
        case ["synthesis", "const"]:
            return Entry("synthesis/4x4/Const/const", (1, *shape))
        case ["synthesis", "convs", index, "noise_const"]:
            return Entry(f"synthesis/noise{index}", (1, 1, *shape))
        case ["synthesis", "convs", number, *rest]:
            size = 4 * 2 ** ((int(number) + 1) // 2)
            layer = "Conv" if number == "0" else "Conv0_up" if int(number) % 2 else "Conv1"
            return _layer(f"synthesis/{size}x{size}/{layer}", rest, shape)
        case ["synthesis", "to_rgbs", number, *rest]:
            size = 4 * 2 ** int(number)
            return _layer(f"synthesis/{size}x{size}/ToRGB", rest, shape)
    raise AssertionError(f"no place for {name}")


def _layer(prefix: str, rest: list[str], shape: Shape) -> Entry:
    match rest:
        case ["weight"]:
            convert = _mirrored_kernel if prefix.endswith("_up") else _kernel
            return Entry(f"{prefix}/weight", (shape[2], shape[3], shape[1], shape[0]), convert)
        case ["affine", "weight"]:
            return Entry(f"{prefix}/mod_weight", shape[::-1], _transpose)
        case ["affine", "bias"]:
            return Entry(f"{prefix}/mod_bias", shape, _add_one)
        case [end]:
            return Entry(f"{prefix}/{end}", shape)
    raise AssertionError(f"no place for {prefix} {rest}")


def _transpose(value: Tensor) -> Tensor:
    return value.T


def _add_one(value: Tensor) -> Tensor:
    return value + 1


def _kernel(value: Tensor) -> Tensor:
    return value.permute(3, 2, 0, 1)


def _mirrored_kernel(value: Tensor) -> Tensor:
    return value.flip(0, 1).permute(3, 2, 0, 1)


__getattr__ = functools.partial(renamed, __name__)

__all__ = ["convert_tf_generator", "infer_tf_generator", "network_tensors", "recognise", "tf_layout"]
