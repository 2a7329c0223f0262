"""Generators as other programs leave them: whole modules, tuples, prefixes, trainers' dictionaries."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from stkit.checkpoints.importing import check_parts
from stkit.checkpoints.nvidia import export_nvidia_generator
from stkit.checkpoints.recognise import open_checkpoint
from stkit.errors import WeightsError
from stkit.models.stylegan2 import StyleGAN2
from tests.checkpoints.writers import make_generator, nvidia_module, persistence, rosinality_state


class Generator(nn.Module):
    """A module with the tensors of a state, as `torch.save(g_ema)` of rosinality's trainer writes it."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            owner: nn.Module = self
            *parents, last = name.split(".")
            for parent in parents:
                if parent not in owner._modules:
                    owner.add_module(parent, nn.Module())
                owner = owner.get_submodule(parent)
            if last.startswith(("noise_", "kernel")):
                owner.register_buffer(last, value)
            else:
                owner.register_parameter(last, nn.Parameter(value))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def write(path: Path, content: Any, save: Callable[[Any, Path], None] = torch.save) -> Path:
    with persistence():
        save(content, path)
    return path


def dump(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def nvidia(generator: StyleGAN2) -> Any:
    return nvidia_module(export_nvidia_generator(generator.state_dict()))


G, OTHER = make_generator(), make_generator(seed=9)
ROSINALITY = rosinality_state(G)
CASES: dict[str, tuple[Any, Any]] = {
    "PTI's tuned generator": (nvidia(G), torch.save),
    "a bare module as a pickle": (nvidia(G), dump),
    "a tuple (G, D, G_ema)": ((nvidia(OTHER), nvidia_module({"b4.conv.weight": torch.zeros(3, 3)}), nvidia(G)), dump),
    "a list that ends in numbers": ([nvidia(OTHER), nvidia(G), 250, {"lr": 0.1}], torch.save),
    "a module of rosinality's": (Generator(ROSINALITY), torch.save),
    "a module in DataParallel": (nn.DataParallel(Generator(ROSINALITY)), torch.save),
    "a module under its name": ({"g_ema": Generator(ROSINALITY), "iter": 10}, torch.save),
    "g_ema of DataParallel": ({"g_ema": prefixed(ROSINALITY, "module.")}, torch.save),
    "a bare state of DataParallel": (prefixed(ROSINALITY, "module."), torch.save),
    "a compiled one of DataParallel": (prefixed(ROSINALITY, "module._orig_mod."), torch.save),
    "NVIDIA's state of DataParallel": (
        {"G_ema": prefixed(export_nvidia_generator(G.state_dict()), "module.")},
        torch.save,
    ),
    "BasicSR's": ({"params": rosinality_state(OTHER), "params_ema": ROSINALITY}, torch.save),
    "Lightning's": ({"state_dict": {**prefixed(rosinality_state(OTHER), "G."), **prefixed(ROSINALITY, "G_ema.")},
                     "epoch": 3}, torch.save),
    "Lightning's of a module in a module": (
        {"state_dict": {**prefixed(ROSINALITY, "model.generator."), "loss.weight": torch.zeros(3)}}, torch.save
    ),
    "an averaged model": ({"model": nvidia(OTHER), "model_ema": nvidia(G), "step": 1}, torch.save),
    "safetensors with prefixes": (prefixed(export_nvidia_generator(G.state_dict()), "module."),
                                  lambda content, path: safetensors.torch.save_file(content, path)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrapped_generators_are_read(case: str, tmp_path: Path) -> None:
    content, save = CASES[case]
    checkpoint, found = open_checkpoint(write(tmp_path / "model.pt", content, save))
    assert checkpoint.hostile == ()
    (part,) = found.parts
    tensors = part.convert()
    torch.testing.assert_close(tensors["synthesis.convs.1.weight"], G.state_dict()["synthesis.convs.1.weight"])
    torch.testing.assert_close(tensors["mapping.layers.0.weight"], G.state_dict()["mapping.layers.0.weight"])


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_nothing_beside_a_module_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "model.pt", (nvidia(G), Hostile()), dump)
    checkpoint, _ = open_checkpoint(path)
    assert checkpoint.hostile == ("builtins.print",)
    assert capsys.readouterr().out == ""


def test_a_module_that_is_no_generator(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt", nn.Linear(3, 4))
    with pytest.raises(WeightsError, match="no checkpoint that stkit knows"):
        open_checkpoint(path)


def changed(**parts: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """NVIDIA's state with other tensors under the keys that end so."""
    state = export_nvidia_generator(G.state_dict())
    for end, change in parts.items():
        state |= {key: change(value) for key, value in state.items() if key.endswith(end.replace("_", ".", 1))}
    return state


REFUSED = {
    "class-conditional, with 10 classes": changed() | {
        "mapping.embed.weight": torch.zeros(24, 10),
        "mapping.embed.bias": torch.zeros(24),
        "mapping.fc0.weight": torch.zeros(64, 48),
    },
    "1 channels \\(grey\\)": changed(torgb_weight=lambda x: x[:1].clone(), torgb_bias=lambda x: x[:1].clone()),
    "4 channels \\(RGB with alpha\\)": changed(
        torgb_weight=lambda x: torch.cat([x, x[:1]]), torgb_bias=lambda x: torch.cat([x, x[:1]])
    ),
    "not square: it starts from 4 x 2": changed(b4_const=lambda x: x[:, :, :2].clone()),
}  # fmt: skip


@pytest.mark.parametrize("cause", REFUSED)
def test_what_cannot_run_is_refused_where_it_is_looked_at(cause: str, tmp_path: Path) -> None:
    torch.save({"G_ema": REFUSED[cause]}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=cause):
        open_checkpoint(tmp_path / "model.pt")


def test_rosinality_pictures_of_one_channel(tmp_path: Path) -> None:
    state = {key: value[:, :1].clone() if "to_rgb" in key and value.ndim > 2 and value.shape[1] == 3 else value
             for key, value in ROSINALITY.items()}  # fmt: skip
    torch.save({"g_ema": state}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="grey"):
        open_checkpoint(tmp_path / "model.pt")


def test_inspection_finds_what_an_import_would(tmp_path: Path) -> None:
    state = rosinality_state(G)
    state["conv1.conv.weight"] = state["conv1.conv.weight"] * float("nan")
    torch.save({"g_ema": state}, tmp_path / "model.pt")
    _, found = open_checkpoint(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="not finite numbers"):
        check_parts(found)
