"""ONNX graphs in onnxruntime, beside torch."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from stkit.checkpoints.exporting import export_weights
from stkit.contracts.shapes import shape_values
from stkit.errors import MissingPackageError, UsageError
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.psp_encoders import load_psp_encoder
from stkit.models.registry import load_generator
from stkit.models.shapes import MobileStyleGANConfig
from stkit.models.style_transformer import load_style_transformer
from stkit.tensors import save_tensors
from stkit.weights import Header, Weights, find_weights, load_header


def run(path: Path, name: str, value: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == [name]
    return np.asarray(session.run(None, {name: value.numpy()})[0])


@pytest.mark.parametrize("kind", ["generator", "inverter", pytest.param("inverter-e4e", marks=pytest.mark.slow)])
def test_onnxruntime_agrees_with_torch_at_any_batch_size(kind: str, tiny_weights: Weights, tmp_path: Path) -> None:
    path = export_weights(tiny_weights, "onnx", tmp_path, kind)
    header = json.loads({prop.key: prop.value for prop in onnx.load(path).metadata_props}["stkit"])
    assert header["fingerprint"] == load_header(tiny_weights.path(kind)).fingerprint
    rival = load_psp_encoder(tiny_weights, "e4e") if kind == "inverter-e4e" else None
    encoder = rival or load_style_transformer(tiny_weights)
    for batch in (1, 3):
        with torch.inference_mode():
            if kind == "generator":
                value = torch.randn(batch, tiny_weights.num_ws, tiny_weights.w_dim)
                expected = load_generator(tiny_weights).synthesize(value)
                got = run(path, "w_plus", value)
            else:
                value = torch.randn(batch, 3, 16, 16)
                expected = encoder(value)
                got = run(path, "photo", value)
        assert got.shape == expected.shape
        assert np.abs(got - expected.numpy()).max() < 1e-4


def test_what_the_exporter_says_for_programmers_is_not_shown(tiny_weights: Weights, tmp_path: Path) -> None:
    words = ["weights", "export", str(tiny_weights.folder), "--format", "onnx", "--out", str(tmp_path / "graphs")]
    done = subprocess.run([sys.executable, "-m", "stkit", *words], capture_output=True, text=True, check=True)
    assert "torchvision" not in done.stderr, done.stderr


def test_a_mobile_stylegan_agrees_too(tiny_weights: Weights, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = MobileStyleGAN(MobileStyleGANConfig(8, 8, 2, (16, 8, 12))).eval()
    for name, value in generator.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.constant_(value, 0.3)
    header = dataclasses.replace(
        load_header(tiny_weights.path("generator")),
        architecture="mobile-stylegan",
        generator="",
        config=dataclasses.asdict(generator.config),
        shape=shape_values(generator.config),
    )
    save_tensors(tmp_path / "weights" / "generator.safetensors", generator.state_dict(), header)
    path = export_weights(find_weights(str(tmp_path / "weights")), "onnx", tmp_path)
    for batch in (1, 3):
        w_plus = torch.randn(batch, generator.config.num_ws, 8)
        with torch.inference_mode():
            expected = generator.synthesize(w_plus)
        assert np.abs(run(path, "w_plus", w_plus) - expected.numpy()).max() < 1e-4


def test_what_to_install_is_said(tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(MissingPackageError, match=r"pip install 'stkit\[onnx\]'"):
        export_weights(tiny_weights, "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_parts_that_are_no_single_network_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    header: Header = load_header(tiny_weights.path("inverter"))
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "generator.safetensors").write_bytes(tiny_weights.path("generator").read_bytes())
    other = Header("components", "ganspace", {}, header.domain, header.alignment, "", tiny_weights.fingerprint)
    save_tensors(folder / "components.safetensors", {"x": torch.zeros(1)}, other)
    weights = Weights("tiny", folder, tiny_weights.header)
    with pytest.raises(UsageError, match="no single network"):
        export_weights(weights, "onnx", tmp_path / "out", "components")
