"""What the tests of jobs on many photos share: weights that take any picture as it is, and photos of any number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stkit.contracts.framing import AlignmentTemplate
from stkit.photo.images import to_image
from stkit.testing import make_tiny_weights


@pytest.fixture(scope="session")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of tiny weights of the domain plain."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    make_tiny_weights(folder, "plain", alignment=AlignmentTemplate("box", 16, ((0, 0), (16, 16))))
    return str(folder)


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder of so many photos, 0.png and so on."""

    def make(count: int) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for i, image in enumerate(torch.nn.functional.interpolate(coarse, size=32)):
            to_image(image).save(folder / f"{i}.png")
        return folder

    return make
