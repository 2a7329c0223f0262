from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stkit.domains import AlignmentTemplate
from stkit.errors import StkitError, UsageError, WeightsError
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import Generator, GeneratorConfig
from stkit.training.data import ImageSet
from stkit.training.export import save_module
from stkit.training.generator import export_generator
from stkit.training.inverter import InverterConfig, InverterRun, export_inverter
from stkit.training.loop import LoopConfig
from stkit.weights import find_weights, load_header, verify_weights

GENERATOR = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
NETWORK = StyleTransformerConfig(
    input_resolution=32,
    num_ws=GENERATOR.num_ws,
    num_queries=GENERATOR.num_ws + 1,
    d_model=8,
    heads=2,
    feedforward=8,
    mapping_layers=2,
    depths=(1, 1, 1, 1),
    widths=(16, 16, 16, 8),
)
TINY = InverterConfig(NETWORK, learning_rate=1e-2, dtype=torch.float32, compile=False)
L2_ALONE = dataclasses.replace(TINY, lpips=0.0, identity=0.0)
TEMPLATE = AlignmentTemplate("points", 128, ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.5)))


def make_generator(seed: int = 0, config: GeneratorConfig = GENERATOR) -> Generator:
    torch.manual_seed(seed)
    generator = Generator(config)
    generator.w_avg.copy_(generator.compute_w_avg(1000))
    return generator


def make_set(count: int = 12, resolution: int = 32, seed: int = 0) -> ImageSet:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    images = nn.functional.interpolate(coarse, size=resolution, mode="bilinear").byte()
    return ImageSet(images, tuple(f"{i}.png" for i in range(count)))


def embed(images: Tensor) -> Tensor:
    """Unit vectors [B, 12] of mean colours."""
    return nn.functional.normalize(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), dim=1)


def make_run(out: Path, steps: int = 1, config: InverterConfig = TINY, **changes: Any) -> InverterRun:
    loop = {"out": out, "steps": steps, "batch": 4, "save_seconds": 1e6, "resume": changes.pop("resume", False)}
    parts = {
        "generator": make_generator(),
        "train_set": make_set(),
        "val_set": make_set(5, seed=1),
        "embedder": embed,
        **changes,
    }
    return InverterRun(config=config, loop=LoopConfig(**loop), device=torch.device("cpu"), **parts)


def tensors(run: InverterRun) -> dict[str, Tensor]:
    models = {"model": run.model, "ema": run.ema}
    return {f"{name}.{key}": value for name, model in models.items() for key, value in model.state_dict().items()}


def log_lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_killed_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, latent=0.5)
    straight = make_run(tmp_path / "straight", 6, config)
    assert straight.train() == 6
    halfway = make_run(tmp_path / "killed", 6, config)
    # The learning rate depends on the last step, so the run is stopped and not shortened.
    halfway.loop = dataclasses.replace(halfway.loop, steps=3)
    halfway_steps, halfway.step = halfway.step, lambda step: None  # type: ignore[assignment]
    halfway.loop, halfway.step = dataclasses.replace(halfway.loop, steps=3), halfway_steps  # type: ignore[method-assign]
    halfway.train()
    torch.manual_seed(99)
    resumed = make_run(tmp_path / "killed", 6, config, resume=True)
    assert resumed.train() == 6
    expected, got = tensors(straight), tensors(resumed)
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
