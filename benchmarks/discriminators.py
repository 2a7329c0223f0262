"""StyleGAN2's discriminator with ADA against a projected one, under the same generator and for the same wall time.

    python -m benchmarks.discriminators faces128.zip --seconds 3600 --out runs/discriminators

prints a table of Frechet distances (lite0 features, which the projected one sees through, too) and sliced Wasserstein
distances between samples and the split `test` (without a CSV, the validation images), and those of training images.
`--settings` changes one setting at a time, for each of `--discriminators`. A run goes on when the command is given
again.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import load_image_set, load_train_val
from stkit.datasets.labels import labels_beside
from stkit.devices import fast_dtype, resolve_device
from stkit.jobs.evaluation.quick import evaluate_samples
from stkit.models.discriminator import DiscriminatorConfig
from stkit.models.projected import ProjectedConfig
from stkit.models.shapes import StyleGAN2Config
from stkit.plugins import load_plugins
from stkit.training.augment import DIFF_AUGMENT
from stkit.training.generator import AdversarialConfig, GeneratorRun, default_r1_gamma, export_generator
from stkit.training.loop import LoopConfig
from stkit.weights import find_weights

Step = Callable[[int], Mapping[str, Tensor]]

DISCRIMINATORS = ("stylegan2", "projected")
SETTINGS = ("plain", "r1/5", "r1*5", "batch/2", "rate/2", "rate*2", "channels/2", "mapping-2", "mapping-8")


def configure(
    discriminator: str, setting: str, size: int, batch: int, base: int, widest: int, **shared: Any
) -> tuple[AdversarialConfig, int]:
    """The config and the batch of one run. R1 settings are of StyleGAN2's discriminator, the other has none."""
    layers = int(setting.removeprefix("mapping-")) if setting.startswith("mapping-") else 4
    base, widest = (base // 2, widest // 2) if setting == "channels/2" else (base, widest)
    batch = batch // 2 if setting == "batch/2" else batch
    generator = StyleGAN2Config(size, 256, 256, layers, base, widest)
    rate = 2e-3 * {"rate/2": 0.5, "rate*2": 2.0}.get(setting, 1.0)
    shared |= {"g_learning_rate": rate, "d_learning_rate": rate}
    if discriminator == "projected":
        shared |= {"augment": DIFF_AUGMENT, "augment_p": 1.0, "ada_target": None}
        return AdversarialConfig(generator, ProjectedConfig(size), **shared), batch
    gamma = default_r1_gamma(size, batch) * {"r1/5": 0.2, "r1*5": 5.0}.get(setting, 1.0)
    return AdversarialConfig(generator, DiscriminatorConfig(size, base, widest), r1_gamma=gamma, **shared), batch


def main() -> None:
    """Train all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600, help="of training for each, compiling included")
    parser.add_argument("--discriminators", nargs="+", choices=DISCRIMINATORS, default=DISCRIMINATORS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["plain"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--channel-base", type=int, default=6144)
    parser.add_argument("--channel-max", type=int, default=256)
    parser.add_argument("--domain", default="faces")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()

    device = resolve_device(arguments.device)
    crop = load_plugins().domain(arguments.domain).output_crop
    train_set, test_set = load_train_val(arguments.data, arguments.resolution, output_crop=crop)
    if labels_beside(arguments.data).exists():
        test_set = load_image_set(arguments.data, arguments.resolution, "test", output_crop=crop)
    compile = not arguments.no_compile
    size, base, widest = arguments.resolution, arguments.channel_base, arguments.channel_max
    runs = [
        (discriminator, setting)
        for setting in arguments.settings
        for discriminator in arguments.discriminators
        if discriminator == "stylegan2" or not setting.startswith("r1")
    ]
    rows = []
    for discriminator, setting in runs:
        config, batch = configure(
            discriminator, setting, size, arguments.batch, base, widest, dtype=fast_dtype(device), compile=compile
        )
        name = f"{discriminator}-{setting.replace('/', 'over').replace('*', 'x')}"
        loop = LoopConfig(arguments.out / name, 10**9, batch, resume=True)
        run = GeneratorRun(config, loop, train_set, device)
        steps = train_for(run, arguments.seconds)
        folder = arguments.out / f"{name}-weights"
        export_generator(
            run.averaged, folder, domain=arguments.domain, alignment=AlignmentTemplate("box"), licence="benchmark"
        )
        counts = f"| {discriminator} | {setting} | {steps} | {steps * batch} |"
        weights = find_weights(folder)
        rows.append((counts, evaluate_samples(weights, test_set, train_set, device, arguments.samples)))
    print(
        f"{os.cpu_count()} CPU cores, device {device}, {arguments.seconds:g} s each, {size} px, {len(test_set)} images"
    )
    print("| discriminator | setting | steps | images seen | Frechet distance (lite0) | SWD x 1e3 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for counts, figures in rows:
        print(f"{counts} {figures['frechet']:.1f} | {figures['swd']:.1f} |")
    print(f"| training images | | | | {rows[0][1]['floor']:.1f} | {rows[0][1]['swd_floor']:.1f} |")


def train_for(run: GeneratorRun, seconds: float) -> int:
    """Train for `seconds` of wall time, earlier runs from the same folder included; the steps done in all."""
    spent = run.loop.out / "seconds.txt"
    before, steps = map(float, spent.read_text().split()) if spent.exists() else (0.0, 0.0)
    if before >= seconds:
        run.loop = LoopConfig(run.loop.out, int(steps), run.loop.batch, resume=True)  # only loads the checkpoint
        return run.train()
    started = time.monotonic()
    step = run.step

    def timed(number: int) -> Mapping[str, Tensor]:
        if before + time.monotonic() - started >= seconds:
            signal.raise_signal(signal.SIGTERM)  # the loop ends after this step, with a checkpoint
        return step(number)

    run.step = timed  # type: ignore[method-assign,assignment]
    done = run.train()
    spent.write_text(f"{before + time.monotonic() - started} {done}")
    return done


if __name__ == "__main__":
    main()
