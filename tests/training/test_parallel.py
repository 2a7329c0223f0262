"""Two processes (gloo) against one with the whole batch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stkit.datasets.images import ImageSet
from stkit.errors import UsageError
from stkit.models.discriminator import DiscriminatorConfig
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2
from stkit.training import parallel
from stkit.training.generator import AdversarialConfig, GeneratorRun
from stkit.training.inverter import InverterConfig, InverterRun
from stkit.training.loop import LoopConfig
from stkit.training.reconstruction import ReconstructionConfig, ReconstructionRun

CPU = torch.device("cpu")
STEPS = 3
GENERATOR = StyleGAN2Config(32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=128, channel_max=8)
INVERTER = StyleTransformerConfig(
    input_resolution=32,
    num_ws=GENERATOR.num_ws,
    num_queries=GENERATOR.num_ws,
    d_model=16,
    heads=2,
    feedforward=16,
    mapping_layers=2,
    dropout=0.0,
    depths=(1, 1, 1, 1),
    widths=(16, 16, 16, 16),
)
PLAIN: dict[str, Any] = {"dtype": torch.float32, "compile": False}


def image_set() -> ImageSet:
    coarse = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    images = nn.functional.interpolate(coarse, size=32, mode="bilinear").byte()
    return ImageSet(images, tuple("abcdefghijkl"))


def train_all(out: Path) -> dict[str, list[dict[str, float]]]:
    """The losses of a few steps of every training, with one batch of 4."""
    losses: dict[str, list[dict[str, float]]] = {}
    images = image_set()
    torch.manual_seed(0)
    generator = StyleGAN2(GENERATOR)
    discriminator = DiscriminatorConfig(32, channel_base=128, channel_max=8, mbstd_group_size=1)
    # Without what depends on the process: mean codes, zoomed crops, groups of images, and noise (its strength stays 0).
    reconstruction = ReconstructionConfig(GENERATOR, INVERTER, mean_share=0, zoom=False, **PLAIN)
    adversarial = AdversarialConfig(
        GENERATOR, discriminator, d_reg_interval=2, augment_p=0.5, ada_images=40, zoom=False, **PLAIN
    )
    inverter = InverterConfig(INVERTER, identity=0, latent=0.5, learning_rate=1e-3, **PLAIN)
    for name in ("reconstruction", "generator", "keeping", "inverter"):
        loop = LoopConfig(out / name, STEPS, 4, log_seconds=0.0)
        run: ReconstructionRun | GeneratorRun | InverterRun
        if name == "reconstruction":
            run = ReconstructionRun(reconstruction, loop, images, images, CPU)
        elif name in ("generator", "keeping"):
            torch.manual_seed(1)
            kept = StyleTransformer(INVERTER).eval() if name == "keeping" else None
            run = GeneratorRun(adversarial, loop, images, CPU, inverter=kept, val_set=images)
            for key, parameter in run.generator.named_parameters():
                parameter.requires_grad_("noise_strength" not in key)
        else:
            run = InverterRun(inverter, generator, loop, images, images, CPU)
        assert run.train() == STEPS
        if parallel.rank() == 0:
            lines = (out / name / "log.jsonl").read_text().splitlines()
            losses[name] = [json.loads(line) for line in lines]
    return losses


def test_two_processes_lose_what_one_with_the_whole_batch_loses(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    common = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-W", "error", __file__, str(tmp_path / "two")]
    with contextlib.ExitStack() as stack:
        processes = []
        for i in range(2):
            environment = {**common, "RANK": str(i), "LOCAL_RANK": str(i)}
            processes.append(stack.enter_context(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)))
            stack.callback(processes[-1].kill)
        one = train_all(tmp_path / "one")
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said.decode()
    two = json.loads((tmp_path / "two" / "losses.json").read_text())
    for name, lines in one.items():
        assert len(lines) == len(two[name]) == STEPS + 1
        for ours, theirs in zip(lines, two[name], strict=True):
            for key in ours.keys() - {"seconds", "images_per_second"}:
                assert theirs[key] == pytest.approx(ours[key], rel=2e-3, abs=2e-3), f"{name} {key} {ours['step']}"
    # The processes wrote one checkpoint, and a single process can go on from it.
    assert torch.load(tmp_path / "two" / "generator" / "checkpoint.pt", weights_only=True)["step"] == STEPS


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    parallel.start(CPU)
    rows = torch.arange(6.0)
    assert (parallel.world_size(), parallel.rank()) == (1, 0)
    assert torch.equal(parallel.shard(rows), rows) and torch.equal(parallel.gather(rows), rows)
    values: Mapping[str, Tensor] = {"loss": torch.tensor(2.0)}
    assert parallel.average_values(values) == values
    model = nn.Sequential(nn.BatchNorm2d(3))
    parallel.sync_batch_norms(model)
    assert type(model[0]) is nn.BatchNorm2d


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_batch_norm_of_processes_with_equal_rows_is_that_of_one(mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel._SumOfProcesses, "apply", lambda values: 2 * values)
    values = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1e-3 + mean
    shared, alone = parallel.SyncedBatchNorm(3), nn.BatchNorm2d(3)
    torch.testing.assert_close(shared(values), alone(values), atol=1e-3, rtol=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "world_size", lambda: 3)
    assert parallel.require_shares(12) == 4
    with pytest.raises(UsageError, match="a batch of 8 cannot be shared by 3 processes"):
        parallel.require_shares(8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.start(CPU)
    folder = Path(sys.argv[1])
    result = train_all(folder)
    if parallel.rank() == 0:
        (folder / "losses.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()
    # torch's threads rarely abort a process that ends by itself (2 of some 60 runs): what is tested here is done.
    os._exit(0)
