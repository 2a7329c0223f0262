from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stkit.datasets.images import ImageSet
from stkit.errors import UsageError
from stkit.models.projected import ProjectedConfig, ProjectedDiscriminator
from stkit.models.shapes import StyleGAN2Config
from stkit.training.augment import DIFF_AUGMENT
from stkit.training.generator import AdversarialConfig, GeneratorRun
from stkit.training.loop import LoopConfig

CONFIG = AdversarialConfig(
    generator=StyleGAN2Config(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8),
    discriminator=ProjectedConfig(32, channels=8),
    d_warmup=2,
    augment=DIFF_AUGMENT,
    augment_p=1.0,
    ada_target=None,
    dtype=torch.float32,
    compile=False,
)


def make_run(out: Path, steps: int, resume: bool = False) -> GeneratorRun:
    coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    images = nn.functional.interpolate(coarse, size=32, mode="bilinear").byte()
    loop = LoopConfig(out, steps, 4, save_seconds=1e6, resume=resume)
    return GeneratorRun(CONFIG, loop, ImageSet(images, tuple("abcdefgh")), torch.device("cpu"))


@pytest.mark.parametrize("size", [32, 64, 128])
def test_one_score_for_each_of_four_scales(size: int) -> None:
    torch.manual_seed(0)
    model = ProjectedDiscriminator(ProjectedConfig(size, channels=8))
    images = torch.rand(2, 3, size, size) * 2 - 1
    scores = model(images)
    assert scores.shape == (2, 4)
    # Every scale sees the picture, and images do not see each other.
    assert ((scores[0] - scores[1]).abs() > 1e-7).all()
    torch.testing.assert_close(model.eval()(images[:1]), model(images)[:1], atol=1e-5, rtol=1e-4)


def test_only_the_heads_are_trained_and_coarse_features_reach_fine_scales() -> None:
    torch.manual_seed(0)
    model = ProjectedDiscriminator(ProjectedConfig(64, channels=8))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith("heads.") for name in trained)
    maps = [torch.zeros(1, c, 16 >> i, 16 >> i) for i, c in enumerate((24, 40, 112, 320))]
    model.features.maps = lambda images: maps  # type: ignore[method-assign]
    before = model._mixed(torch.zeros(1))
    maps[3] = maps[3] + 1
    assert all((a != b).any() for a, b in zip(before, model._mixed(torch.zeros(1)), strict=True))
    maps[3] = maps[3] - 1
    maps[0] = maps[0] + 1
    changed = [(a != b).any().item() for a, b in zip(before, model._mixed(torch.zeros(1)), strict=True)]
    assert changed == [True, False, False, False]


def test_a_stopped_run_ends_with_the_same_bits_and_fixed_parts_stay(tmp_path: Path) -> None:
    straight = make_run(tmp_path / "straight", 4)
    start = {name: value.clone() for name, value in straight.discriminator.state_dict().items()}
    straight.train()
    make_run(tmp_path / "stopped", 3).train()
    torch.manual_seed(99)
    resumed = make_run(tmp_path / "stopped", 4, resume=True)
    resumed.train()
    for mine, other in ((straight.generator, resumed.generator), (straight.discriminator, resumed.discriminator)):
        theirs = other.state_dict()
        assert [name for name, value in mine.state_dict().items() if not torch.equal(value, theirs[name])] == []
    for name, value in straight.discriminator.state_dict().items():
        trained = name.startswith("heads.") and name.endswith("weight.original")
        if trained or not name.startswith("heads."):
            assert torch.equal(value, start[name]) != trained, name


def test_the_generator_waits_for_the_warmed_up_discriminator(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    start = {name: value.detach().clone() for name, value in run.generator.named_parameters()}

    def still() -> bool:
        return all(torch.equal(value, start[name]) for name, value in run.generator.named_parameters())

    d_start = [p.clone() for p in run._d_parameters]
    run.step(0)
    run.step(1)
    assert still() and any(not torch.equal(p, q) for p, q in zip(run._d_parameters, d_start, strict=True))
    run.step(2)
    assert not still()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="img_resolution 16 is not a power of two from 32"):
        ProjectedConfig(16)
