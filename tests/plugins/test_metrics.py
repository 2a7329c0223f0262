"""The metrics of stkit_metrics against their definitions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from stkit_metrics.inception import FIDMetric, FIDOptions
from stkit_metrics.paired import LPIPSMetric, MSEMetric, MSSSIMMetric, PSNRMetric
from stkit_metrics.sets import FrechetMetric, KIDMetric

from stkit.errors import MissingPackageError, UsageError
from stkit.measure.distributions import frechet_distance, kernel_distance
from stkit.options import Options


def pictures(count: int, height: int = 256, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=(height, 256), mode="bilinear")


def test_psnr_is_in_decibels_of_a_range_of_two() -> None:
    a = pictures(2)
    b = torch.stack([a[0] + 0.02, a[1] - 0.2])  # 40 and 20 dB under the peak
    assert PSNRMetric().compute(b, a, Options()) == {"psnr": pytest.approx(30.0, abs=1e-3)}
    assert MSEMetric().compute(b, a, Options()) == {"mse": pytest.approx((0.02**2 + 0.2**2) / 2, rel=1e-3)}
    assert PSNRMetric().compute(a, a, Options())["psnr"] == pytest.approx(100.0)


@pytest.mark.parametrize("height", [256, 144])  # of faces, and of cars, which are too flat for five scales
def test_ms_ssim_falls_with_noise(height: int) -> None:
    a = pictures(2, height)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    values = [MSSSIMMetric().compute((a + k * noise).clamp(-1, 1), a, Options())["ms-ssim"] for k in (0, 0.1, 0.5)]
    assert values[0] == pytest.approx(1.0) and values[0] > values[1] > values[2] > 0


def test_pairs_have_to_pair_up() -> None:
    for a, b in ((pictures(2), pictures(1)), (pictures(0), pictures(0))):
        with pytest.raises(UsageError, match="lpips compares pairs"):
            LPIPSMetric().compute(a, b, Options())


def test_kernel_distance_by_its_definition() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 8, generator=random).double(), torch.randn(7, 8, generator=random).double() + 0.5

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / 8 + 1) ** 3)

    def own(rows: torch.Tensor) -> float:
        return (
            sum(k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j) / len(rows) / (len(rows) - 1)
        )

    across = sum(k(x, y) for x in a for y in b) / 35
    assert kernel_distance(a, b) == pytest.approx(own(a) + own(b) - 2 * across)
    assert kernel_distance(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match="two images at least"):
        kernel_distance(a[:1], b)


def test_features_of_the_same_images_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import stkit.measure.distributions as distributions

    calls = []
    original = distributions.lite0_features

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(distributions, "lite0_features", counted)
    a, b = pictures(3), pictures(3, seed=1)
    for metric in (FrechetMetric(), KIDMetric(), FrechetMetric()):
        assert metric.compute(a, b, Options())[metric.name] > 0
    assert len(calls) == 2


class MeanColours:
    """In the place of torch-fidelity's network: it takes bytes."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
        assert features_list == ["2048"] and Path(feature_extractor_weights_path).name == "inception.pth"

    def to(self, device: str) -> MeanColours:
        return self

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        assert images.dtype == torch.uint8
        return (images.float().mean((2, 3)),)


def test_a_torchvision_that_does_not_fit_torch_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "torchmetrics"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    a = pictures(2, 32)
    with pytest.raises(MissingPackageError, match=r"ms-ssim needs torchmetrics, .*::nms .*: pip uninstall torchvision"):
        MSSSIMMetric().compute(a, a, Options())


def test_fid_needs_weights_and_the_package_and_runs_nothing_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, path = pictures(5, 32), pictures(6, 32, seed=1), tmp_path / "inception.pth"
    with pytest.raises(UsageError, match=r"no Inception weights at .*give it with -o fid.weights=FILE"):
        FIDMetric().compute(a, b, FIDOptions(weights=path))
    torch.save({"x": torch.zeros(1)}, path)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingPackageError, match="pip install torch-fidelity"):
        FIDMetric().compute(a, b, FIDOptions(weights=path))
    module: Any = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = MeanColours
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ours, theirs = (part.add(1).mul(127.5).round().mean((2, 3)) for part in (a, b))
    found = FIDMetric().compute(a, b, FIDOptions(weights=path))
    assert found == {"fid": pytest.approx(frechet_distance(ours, theirs), rel=1e-3)}
    (tmp_path / "other").mkdir()
    harmful = tmp_path / "other" / "inception.pth"
    torch.save(Path("x"), harmful)
    with pytest.raises(UsageError, match="are no Inception weights of torch-fidelity"):
        FIDMetric().compute(a, b, FIDOptions(weights=harmful))
