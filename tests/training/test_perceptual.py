"""LPIPS as a loss, at sizes that the network alone does not take."""

from __future__ import annotations

import pytest
import torch

from stkit.contracts.framing import WHOLE
from stkit.measure.lpips import load_lpips
from stkit.plugins import load_plugins
from stkit.training.perceptual import training_lpips


@pytest.mark.parametrize("domain", ["faces", "cars"])
@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
def test_small_pictures_are_enlarged_until_lpips_takes_them(domain: str, resolution: int) -> None:
    crop = load_plugins().domain(domain).output_crop
    assert (crop == WHOLE) == (domain == "faces")
    random = torch.Generator().manual_seed(0)
    images, photos = torch.rand(2, 9, 3, resolution, resolution, generator=random) * 2 - 1
    network = load_lpips(torch.device("cpu"))
    for zoom in (True, False):
        distances = training_lpips(images, photos, network, crop, zoom)
        assert distances.shape == (9,) and (distances > 0.03).all()
        assert (training_lpips(photos, photos, network, crop, zoom) == 0).all()
