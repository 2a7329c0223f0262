"""What a setting of an inverter's training does: `python -m benchmarks.inverters DATA --out DIR [--seconds 3600]`.

A small Style Transformer begins from nothing beside the frozen generator of `--weights`, with the losses, batches and
schedule of `stkit train inverter`, for the same wall time with each of `--settings`, which change one thing at a time
(ranger needs `pip install --no-deps pytorch-optimizer`): a fiftieth of the time tells the pace, and the pace how many
steps it is worth. With `--steps` all see equally many images instead. Figures are those of `stkit evaluate --quick`
on the split test. A run in DIR goes on. Architectures are compared by `stkit train rivals` and `stkit evaluate`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stkit.contracts.domains import Domain
from stkit.datasets.images import ImageSet, load_image_set, load_train_val
from stkit.devices import fast_dtype
from stkit.jobs.evaluation.quick import evaluate_reconstruction, mean_image
from stkit.models.registry import load_generator
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.plugins import load_plugins
from stkit.training.inverter import InverterConfig, InverterRun, export_inverter, load_identity
from stkit.training.loop import LoopConfig
from stkit.weights import Weights, find_weights

Embedder = Callable[[Tensor], Tensor] | None

SETTINGS = ("plain", "rate/3", "rate*3", "identity-0", "latent-0.1", "no-zoom", "ranger", "ranger*3")

_CPU = torch.device("cpu")
_PACE_SHARE = 0.02  # of the time, spent on measuring the pace


@dataclass(frozen=True)
class Setting:
    """What all runs share."""

    weights: Weights
    domain: Domain
    embedder: Embedder
    judge: Embedder
    train: ImageSet
    val: ImageSet
    test: ImageSet
    batch: int
    learning_rate: float
    compile: bool

    def run(self, change: str, out: Path, steps: int, resume: bool) -> InverterRun:
        """A run of `stkit train inverter`, with one of SETTINGS."""
        generator = load_generator(self.weights)
        config = InverterConfig(
            StyleTransformerConfig.small(generator.config), dtype=fast_dtype(_CPU), compile=self.compile
        )
        changes: dict[str, dict[str, Any]] = {
            "identity-0": {"identity": 0.0},
            "latent-0.1": {"latent": 0.1},
            "no-zoom": {"zoom": False},
        }
        rate = self.learning_rate * (3 if change.endswith("*3") else 1 / 3 if change.endswith("/3") else 1)
        config = dataclasses.replace(config, learning_rate=rate, **changes.get(change, {}))
        loop = LoopConfig(out, steps, self.batch, resume=resume, sample_seconds=900)
        run = InverterRun(config, generator, loop, self.train, self.val, _CPU, self.embedder)
        if change.startswith("ranger"):
            from pytorch_optimizer import Ranger

            ranger: Any = Ranger(run.model.parameters(), config.learning_rate)
            run.optimizer = ranger
        return run


def planned_steps(setting: Setting, change: str, out: Path, seconds: float, steps: int | None) -> int:
    """How many steps to train, the same when the run goes on; `seconds` of them by the pace of the first few."""
    plan = out / "plan.json"
    if plan.exists():
        return int(json.loads(plan.read_text())["steps"])
    if steps is None:
        with tempfile.TemporaryDirectory() as folder:
            probe = setting.run(change, Path(folder), 1000, resume=False)
            for step in range(2):  # compiles
                probe.step(step)
            start, done, passed = time.perf_counter(), 0, 0.0
            while done < 8 or passed < seconds * _PACE_SHARE:
                probe.step(2 + done)
                done, passed = done + 1, time.perf_counter() - start
            steps = max(1, round(seconds * done / passed))
    out.mkdir(parents=True, exist_ok=True)
    plan.write_text(json.dumps({"steps": steps}))
    return steps


def train(setting: Setting, change: str, out: Path, steps: int) -> Weights | None:
    """Train to the last step and export; the weights in `out`, None when the training was stopped."""
    if not (out / "inverter.safetensors").exists():
        run = setting.run(change, out, steps, resume=(out / "checkpoint.pt").exists())
        if run.train() < steps:
            return None
        model, weights = run.ema.model, setting.weights
        assert isinstance(model, StyleTransformer)
        shutil.copyfile(weights.path("generator"), out / "generator.safetensors")
        export_inverter(
            model,
            out,
            generator=weights.fingerprint,
            domain=weights.domain,
            alignment=weights.alignment,
            licence=weights.header.licence,
        )
    return find_weights(out)


def row(setting: Setting, weights: Weights, mean: Tensor, images: str) -> list[str]:
    """The figures of the weights' own inverter on the test photos."""
    report = evaluate_reconstruction(weights, setting.test, mean, _CPU, setting.judge)["reconstruction"]
    return [
        images,
        f"{report['mse']:.4f}",
        f"{report['lpips']:.4f}",
        f"{report['identity']:.3f}" if "identity" in report else "",
    ]


def read_setting(data: Path, weights: Weights, photos: int, batch: int, learning_rate: float, compile: bool) -> Setting:
    """Images, domain and identity network for `weights`."""
    domain = load_plugins().domain(weights.domain)
    train_set, val_set = load_train_val(data, min(weights.resolution, 256), output_crop=domain.output_crop)
    test = load_image_set(data, weights.resolution, "test", output_crop=domain.output_crop)
    test = ImageSet(test.images[:photos], test.names[:photos], test.broken, test.output_crop)
    embedder, judge = load_identity(domain, weights.alignment, _CPU), domain.load_embedder(weights.alignment, _CPU)
    return Setting(weights, domain, embedder, judge, train_set, val_set, test, batch, learning_rate, compile)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inverters", description="Settings, one by one.")
    parser.add_argument("data", type=Path, help="a zip of aligned images with a CSV of splits beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--weights", default="faces", help="whose generator to invert (default faces)")
    parser.add_argument("--seconds", type=float, default=3600, help="wall time of each training (default 3600)")
    parser.add_argument("--steps", type=int, help="steps of each training, instead of --seconds")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["plain"])
    parser.add_argument("--photos", type=int, default=10_000, help="test photos to measure on, at most (default all)")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    frozen = find_weights(args.weights)
    setting = read_setting(args.data, frozen, args.photos, args.batch, args.learning_rate, not args.no_compile)
    mean = mean_image(setting.train)
    headings = ("setting", "images seen", "MSE", "LPIPS", "identity")
    table = Table(*headings, title=f"{len(setting.test)} test photos, generator of '{frozen.name}'")
    for change in args.settings:
        out = args.out / change.replace("/", "over").replace("*", "x")
        steps = planned_steps(setting, change, out, args.seconds, args.steps)
        weights = train(setting, change, out, steps)
        if weights is None:
            raise SystemExit("stopped; the same command goes on")
        table.add_row(change, *row(setting, weights, mean, f"{steps * args.batch:,}"))
    if frozen.inverters():
        table.add_row(f"its own ({frozen.own_inverter()})", *row(setting, frozen, mean, "as shipped"))
    Console().print(table)


if __name__ == "__main__":
    main()
