"""Foreign checkpoints, written from randomly filled models as the projects themselves would write them."""

from __future__ import annotations

import argparse
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stkit.checkpoints.encoders import Four
from stkit.checkpoints.layout import give
from stkit.checkpoints.nvidia import export_nvidia_generator
from stkit.checkpoints.rosinality import export_rosinality_generator
from stkit.checkpoints.style_transformer import style_transformer_layout
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2

GENERATOR = StyleGAN2Config(16, 24, 64, mapping_layers=3, channel_base=256, channel_max=32)
DEPTHS: Four = (1, 2, 1, 1)
WIDTHS: Four = (16, 32, 48, 64)


def filled(module: nn.Module, seed: int = 0) -> Any:
    """Every float of a model's state random, so that nothing hides behind initial values."""
    random = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=random) * 0.5)
            if name.startswith("mapping.layers") and name.endswith("weight"):
                value.mul_(100)  # learning rate multiplier 0.01
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return module.eval().requires_grad_(False)


def make_generator(seed: int = 0, config: StyleGAN2Config = GENERATOR) -> StyleGAN2:
    generator: StyleGAN2 = filled(StyleGAN2(config), seed)
    return generator


def make_style_transformer(num_queries: int = 8) -> StyleTransformer:
    """8 queries of which the 16 px generator uses 6, as the 18 of a 256 px one."""
    config = StyleTransformerConfig(
        num_ws=6, num_queries=num_queries, d_model=64, feedforward=32, mapping_layers=3, depths=DEPTHS, widths=WIDTHS
    )
    model: StyleTransformer = filled(StyleTransformer(config), seed=1)
    return model


def make_psp_encoder(**changes: Any) -> PSPEncoder:
    base = {"num_ws": 6, "w_dim": 64, "style_channels": 16, "depths": DEPTHS, "widths": WIDTHS}
    config = PSPEncoderConfig(**{**base, **changes})
    encoder: PSPEncoder = filled(PSPEncoder(config), seed=2)
    encoder.latent_avg.copy_(encoder.latent_avg[:1].expand_as(encoder.latent_avg).clone())
    return encoder


def rosinality_state(generator: StyleGAN2) -> dict[str, Tensor]:
    return dict(export_rosinality_generator(generator.state_dict())["g_ema"])


def write_rosinality(path: Path, generator: StyleGAN2, trained: bool = False) -> Path:
    """`convert_weight.py`'s output, or a checkpoint of `train.py`: optimisers, arguments and no average."""
    content = export_rosinality_generator(generator.state_dict())
    if trained:
        average = content.pop("latent_avg")
        optimiser = {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": average.clone()}},
            "param_groups": [{"lr": 2e-3}],
        }
        content |= {"g": content["g_ema"], "d": {"final_linear.0.bias": average.clone()}, "g_optim": optimiser,
                    "d_optim": optimiser, "args": argparse.Namespace(size=16, path=Path("data")),
                    "ada_aug_p": np.float64(0.1)}  # fmt: skip
    torch.save(content, path)
    return path


def write_framework(
    path: Path,
    encoder: Mapping[str, Tensor],
    generator: StyleGAN2 | None,
    opts: Any,
    latent_avg: Tensor | None = None,
    parallel: bool = False,
    more: Mapping[str, Tensor] | None = None,
) -> Path:
    """A checkpoint of pSp's training framework."""
    module = "module." if parallel else ""
    state = {f"encoder.{module}{key}": value for key, value in encoder.items()}
    if generator is not None:
        state |= {f"decoder.{module}{key}": value for key, value in rosinality_state(generator).items()}
    content: dict[str, Any] = {"state_dict": {**state, **(more or {})}, "opts": opts}
    if latent_avg is not None:
        content["latent_avg"] = latent_avg
    torch.save(content, path)
    return path


def write_style_transformer(path: Path, model: StyleTransformer, generator: StyleGAN2) -> Path:
    """The official inversion model; the decoder's mapping network is the one of the queries."""
    state = model.state_dict()
    layout = style_transformer_layout({name: tuple(value.shape) for name, value in state.items()})
    theirs = give(layout, state)
    encoder = {key.removeprefix("encoder."): value for key, value in theirs.items() if key.startswith("encoder.")}
    mapping = {f"decoder.module.{key.removeprefix('decoder.')}": value for key, value in theirs.items()
               if key.startswith("decoder.")}  # fmt: skip
    opts = {"output_size": 16, "start_from_latent_avg": True}
    return write_framework(path, encoder, generator, opts, model.latent_avg, parallel=True, more=mapping)


@contextmanager
def foreign_modules(**contents: Mapping[str, Any]) -> Iterator[None]:
    """Modules that exist while a file is written; `torch_utils__persistence` stands for torch_utils.persistence."""
    made = {}
    for name, members in contents.items():
        parts = name.split("__")
        for i in range(len(parts)):
            dotted = ".".join(parts[: i + 1])
            if dotted not in sys.modules:
                made[dotted] = sys.modules[dotted] = types.ModuleType(dotted)
        for key, value in members.items():
            value.__module__, value.__qualname__ = ".".join(parts), key
            setattr(sys.modules[".".join(parts)], key, value)
    try:
        yield
    finally:
        for dotted in made:
            del sys.modules[dotted]


class _Persistent:
    """Pickles as NVIDIA's persistent classes do: its state beside the source code of its class."""

    maker: Any = None
    source = "raise AssertionError('module source was executed')"

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": "Generator",
            "state": self.state,
        }
        return type(self).maker, (meta,), None


def nvidia_module(state: Mapping[str, Tensor], source: str = _Persistent.source) -> Any:
    """A module tree with the tensors of `state`: buffers where NVIDIA has buffers, parameters elsewhere."""
    buffers = ("w_avg", "noise_const", "resample_filter")
    node: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {},
                            "_init_kwargs": {"z_dim": 24}}  # fmt: skip
    children: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        head, dot, rest = key.partition(".")
        if dot:
            children.setdefault(head, {})[rest] = value
        elif key in buffers:
            node["_buffers"][key] = value
        else:
            node["_parameters"][key] = nn.Parameter(value, requires_grad=False)
    node["_modules"] = {name: nvidia_module(tensors, source) for name, tensors in children.items()}
    module = _Persistent(node)
    module.source = source
    return module


@contextmanager
def persistence() -> Iterator[None]:
    """Where NVIDIA's modules can be pickled; whoever unpickles them is found out."""

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("called")

    with foreign_modules(torch_utils__persistence={"_reconstruct_persistent_obj": _reconstruct_persistent_obj}):
        _Persistent.maker = staticmethod(_reconstruct_persistent_obj)
        yield


def write_nvidia(
    path: Path, generator: StyleGAN2, source: str = _Persistent.source, extra: Mapping[str, Tensor] | None = None
) -> Path:
    """A snapshot of stylegan2-ada-pytorch: G, D and G_ema as modules."""

    module = nvidia_module({**export_nvidia_generator(generator.state_dict()), **(extra or {})}, source)
    other = nvidia_module(export_nvidia_generator(make_generator(seed=9, config=generator.config).state_dict()), source)
    content = {"training_set_kwargs": {"path": "x.zip"}, "G": other, "D": other, "G_ema": module, "augment_pipe": None}
    with persistence():
        path.write_bytes(pickle.dumps(content))
    return path


def tf_variables(generator: StyleGAN2) -> dict[str, dict[str, np.ndarray]]:
    """The variables of a TensorFlow generator by network ("", "mapping", "synthesis"), written from NVIDIA's rules:
    matrices transposed, kernels height x width x in x out, those of upsampling layers mirrored, no 1 in mod_bias."""
    state = {key: value.numpy() for key, value in generator.state_dict().items()}
    out: dict[str, dict[str, np.ndarray]] = {"": {"dlatent_avg": state["w_avg"]}, "mapping": {}, "synthesis": {}}
    for i in range(generator.config.mapping_layers):
        out["mapping"][f"Dense{i}/weight"] = state[f"mapping.layers.{i}.weight"].T
        out["mapping"][f"Dense{i}/bias"] = state[f"mapping.layers.{i}.bias"]
    synthesis = out["synthesis"]
    synthesis["4x4/Const/const"] = state["synthesis.const"][None]

    def layer(name: str, ours: str, mirrored: bool) -> None:
        weight = state[f"{ours}.weight"].transpose(2, 3, 1, 0)
        synthesis[f"{name}/weight"] = weight[::-1, ::-1] if mirrored else weight
        synthesis[f"{name}/mod_weight"] = state[f"{ours}.affine.weight"].T
        synthesis[f"{name}/mod_bias"] = state[f"{ours}.affine.bias"] - 1
        synthesis[f"{name}/bias"] = state[f"{ours}.bias"]

    number = 0
    for block, size in enumerate(generator.config.block_resolutions):
        for name in ("Conv",) if size == 4 else ("Conv0_up", "Conv1"):
            layer(f"{size}x{size}/{name}", f"synthesis.convs.{number}", name == "Conv0_up")
            synthesis[f"{size}x{size}/{name}/noise_strength"] = state[f"synthesis.convs.{number}.noise_strength"]
            synthesis[f"noise{number}"] = state[f"synthesis.convs.{number}.noise_const"][None, None]
            number += 1
        layer(f"{size}x{size}/ToRGB", f"synthesis.to_rgbs.{block}", False)
    return out


def write_tf(path: Path, generator: StyleGAN2, version: int = 4, extra: Mapping[str, np.ndarray] | None = None) -> Path:
    """A TensorFlow snapshot: (G, D, Gs)."""

    class Network:
        def __init__(self, name: str, variables: Mapping[str, np.ndarray], components: Mapping[str, Any]) -> None:
            self.state = {"version": version, "name": name, "static_kwargs": {"resolution": 16},
                          "components": dict(components), "build_module_src": "raise AssertionError('executed')",
                          "build_func_name": name, "variables": list(variables.items())}  # fmt: skip

        def __getstate__(self) -> dict[str, Any]:
            return self.state

    def generator_network(model: StyleGAN2, more: Mapping[str, np.ndarray]) -> Network:
        variables = tf_variables(model)
        parts = {name: Network(name, variables[name], {}) for name in ("mapping", "synthesis")}
        return Network("G_main", {"lod": np.array(0.0, np.float32), **variables[""], **more}, parts)

    with foreign_modules(dnnlib__tflib__network={"Network": Network}):
        other = generator_network(make_generator(seed=9, config=generator.config), {})
        content = (other, Network("D", {}, {}), generator_network(generator, extra or {}))
        path.write_bytes(pickle.dumps(content))
    return path
