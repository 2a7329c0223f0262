"""The inverters beside each other, trained alike: `python -m benchmarks.inverters DATA --out DIR [--seconds 3600]`.

Each architecture begins from nothing, at its small size, beside the frozen generator of `--weights`, with the losses,
batches and schedule of `stkit train inverter`, for the same wall time: a fiftieth of it tells the pace, and the pace
how many steps the time is worth. With `--steps` all see equally many images instead. `--settings` changes one thing
at a time in each (ranger needs `pip install --no-deps pytorch-optimizer`). Figures are those of `stkit
evaluate --quick` on the split test; the time is of one photo at a time, encoder alone. A run in DIR goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stkit.contracts.domains import Domain
from stkit.contracts.inversion import InversionContext
from stkit.datasets.images import ImageSet, load_image_set, load_train_val
from stkit.devices import fast_dtype
from stkit.jobs.evaluation.quick import evaluate_reconstruction, mean_image
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig
from stkit.models.registry import load_generator
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.plugins import load_plugins
from stkit.training.inverter import InverterConfig, InverterRun, export_inverter, load_identity
from stkit.training.loop import LoopConfig
from stkit.weights import Weights, find_weights

Architecture = Literal["style-transformer", "psp", "e4e", "restyle"]
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

    def run(self, architecture: Architecture, change: str, out: Path, steps: int, resume: bool) -> InverterRun:
        """A run of `stkit train inverter`, with one of SETTINGS."""
        generator = load_generator(self.weights)
        shape: StyleTransformerConfig | PSPEncoderConfig
        if architecture == "style-transformer":
            shape = StyleTransformerConfig.small(generator.config)
        else:
            shape = PSPEncoderConfig.small(architecture, generator.config)
        config = InverterConfig(shape, dtype=fast_dtype(_CPU), compile=self.compile)
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


def planned_steps(
    setting: Setting, architecture: Architecture, change: str, out: Path, seconds: float, steps: int | None
) -> int:
    """How many steps to train, the same when the run goes on; `seconds` of them by the pace of the first few."""
    plan = out / "plan.json"
    if plan.exists():
        return int(json.loads(plan.read_text())["steps"])
    if steps is None:
        with tempfile.TemporaryDirectory() as folder:
            probe = setting.run(architecture, change, Path(folder), 1000, resume=False)
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


def train(setting: Setting, architecture: Architecture, change: str, out: Path, steps: int) -> Weights | None:
    """Train to the last step and export; the weights in `out`, None when the training was stopped."""
    if not (out / "inverter.safetensors").exists():
        run = setting.run(architecture, change, out, steps, resume=(out / "checkpoint.pt").exists())
        if run.train() < steps:
            return None
        model, weights = run.ema.model, setting.weights
        assert isinstance(model, (StyleTransformer, PSPEncoder))
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


def milliseconds(weights: Weights, images: ImageSet, photos: int = 20) -> float:
    """The median time that the weights' own inverter takes for one crop."""
    inverter = load_plugins().inverter_for(weights)
    times = []
    for number in range(photos + 2):
        crop = images.batch(torch.tensor([number % len(images)]), _CPU)
        start = time.perf_counter()
        inverter.invert(crop, inverter.Options(), InversionContext(weights, _CPU))
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def parameters(weights: Weights) -> float:
    """Parameters of the weights' own inverter, in millions."""
    from safetensors import safe_open

    with safe_open(weights.path("inverter"), framework="numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    return sum(torch.Size(shape).numel() for shape in shapes) / 1e6


def row(setting: Setting, weights: Weights, mean: Tensor, images: str) -> list[str]:
    """The figures of the weights' own inverter on the test photos."""
    report = evaluate_reconstruction(weights, setting.test, mean, _CPU, setting.judge)["reconstruction"]
    return [
        images,
        f"{report['mse']:.4f}",
        f"{report['lpips']:.4f}",
        f"{report['identity']:.3f}" if "identity" in report else "",
        f"{parameters(weights):.2f} M",
        f"{milliseconds(weights, setting.test):.0f}",
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inverters", description="Inverters, trained alike.")
    parser.add_argument("data", type=Path, help="a zip of aligned images with a CSV of splits beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--weights", default="faces", help="whose generator to invert (default faces)")
    parser.add_argument("--seconds", type=float, default=3600, help="wall time of each training (default 3600)")
    parser.add_argument("--steps", type=int, help="steps of each training, instead of --seconds")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--only", nargs="+", choices=get_args(Architecture), default=get_args(Architecture))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["plain"])
    parser.add_argument("--photos", type=int, default=10_000, help="test photos to measure on, at most (default all)")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    frozen = find_weights(args.weights)
    setting = read_setting(args.data, frozen, args.photos, args.batch, args.learning_rate, not args.no_compile)
    mean = mean_image(setting.train)
    headings = ("inverter", "setting", "images seen", "MSE", "LPIPS", "identity", "parameters", "ms a photo")
    table = Table(*headings, title=f"{len(setting.test)} test photos, generator of '{frozen.name}'")
    for architecture, change in itertools.product(args.only, args.settings):
        out = args.out / f"{architecture}-{change.replace('/', 'over').replace('*', 'x')}"
        steps = planned_steps(setting, architecture, change, out, args.seconds, args.steps)
        weights = train(setting, architecture, change, out, steps)
        if weights is None:
            raise SystemExit("stopped; the same command goes on")
        table.add_row(architecture, change, *row(setting, weights, mean, f"{steps * args.batch:,}"))
    if frozen.inverters():
        table.add_row(f"its own ({frozen.own_inverter()})", "", *row(setting, frozen, mean, "as shipped"))
    Console().print(table)


if __name__ == "__main__":
    main()
