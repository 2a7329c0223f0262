"""`stkit evaluate` computes metrics of plugins, those that others installed among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkit.datasets.images import load_image_set
from stkit.jobs.evaluation.quick import mean_image, reconstruct
from stkit.weights import Weights
from tests.cli.harness import Cli, error_line

PLUGIN = """
import stkit
from stkit.contracts.metrics import Metric
from stkit.options import Options

class RednessOptions(Options):
    scale: float = 1.0

class Redness(Metric[RednessOptions]):
    name = "redness"
    description = "difference of the red channels' means, of all pictures together"
    higher_is_better = False
    Options = RednessOptions

    def compute(self, images, references, options):
        assert images.min() >= -1 and images.max() <= 1 and images.shape == references.shape
        difference = (images[:, 0].mean() - references[:, 0].mean()).abs()
        return {"redness": options.scale * float(difference), "redness_pictures": float(len(images))}

@stkit.hookimpl
def register_metrics():
    return [Redness()]
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (16, 16), (12 * i, 255 - 12 * i, 90)).save(folder / f"{i:02d}.png")
    rows = [f"{i:02d}.png,{'test' if i > 16 else 'train'}" for i in range(20)]
    folder.with_suffix(".csv").write_text("file,split\n" + "\n".join(rows) + "\n")
    return folder


def redness(images: torch.Tensor, references: torch.Tensor) -> float:
    as_stored = [part.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1) for part in (images, references)]
    return abs(float(as_stored[0][:, 0].mean() - as_stored[1][:, 0].mean()))


def test_a_strangers_metric_is_computed_and_reported(photos: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "stranger-1.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    info.joinpath("entry_points.txt").write_text("[stkit]\nstranger = stranger_metric\n")
    site.joinpath("stranger_metric.py").write_text(PLUGIN)
    options = [
        "--weights",
        tiny_weights.folder,
        "--no-identity",
        "--metrics",
        "redness",
        "-o",
        "redness.scale=2",
        "--json",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "stkit", "evaluate", "--quick", *map(str, [photos, *options])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    held_out, train = (load_image_set(photos, 16, split) for split in ("test", "train"))
    images = held_out.batch(torch.arange(3), torch.device("cpu"))
    assert report["reconstruction"]["redness_pictures"] == 3
    expected = redness(reconstruct(tiny_weights, images), images)
    assert report["reconstruction"]["redness"] == pytest.approx(2 * expected, rel=1e-4)
    mean = mean_image(train).expand_as(images)
    assert report["mean_image"]["redness"] == pytest.approx(2 * redness(mean, images), rel=1e-4)


def test_metrics_of_ours_are_printed(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    options = ("--weights", tiny_weights.folder, "--no-identity")
    ran = cli("evaluate-quick", photos, *options, "--metric", "swd", "--metric", "mse")
    assert ran.code == 0, ran.err
    assert "warning: `evaluate-quick` is now `evaluate --quick`; the old name goes away" in ran.err
    assert cli("evaluate", photos, "--quick", *options, "--metrics", "swd,mse").out == ran.out
    reconstruction, mean = ran.out.splitlines()[1:3]
    assert "swd_16 " in reconstruction and "swd_16 " in mean
    for arguments, says in (
        (("--metric", "nothing"), "no metric named 'nothing'"),
        (("-o", "scale=2"), "options are those of one metric; name just one"),
        (("--metric", "swd", "-o", "scale=2"), "unknown option 'scale'"),
    ):
        assert says in error_line(cli("evaluate-quick", photos, *options, *arguments))


def test_the_report_has_the_strangers_metric_too(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    shared = (photos, "--weights", tiny_weights.folder, "--metrics", "mse,swd", "--no-costs", "--limit", 2)
    ran = cli("evaluate", *shared, "--inverters", "psp,nothing", "--out", "rep")
    assert ran.code == 0, ran.err
    assert "note: tiny/nothing is left out: no inverter named 'nothing'" in ran.out
    lines = ran.out.splitlines()
    row = lines.index("Reconstruction") + 1
    assert lines[row].split() == ["mse", "swd"] and lines[row + 1].split()[0] == "tiny/psp"
    assert ran.out.rstrip().endswith("rep/report.html") and Path("rep/report.html").exists()
    printed = cli("evaluate", *shared, "--inverters", "psp", "--out", "rep", "--json")
    assert json.loads(printed.out) == json.loads(Path("rep/report.json").read_text())


def test_what_does_not_go_together(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    for arguments, says in (
        (("--grid", "x.png"), "--grid goes with --quick"),
        (("--quick", "--inverters", "psp"), "--quick is for one set of weights with its own inverter"),
        (("-o", "scale=2"), "option 'scale' is not like optimize.steps"),
        (("--inverters", "x", "--metrics", "mse"), "no inverter is left to measure"),
    ):
        assert says in error_line(cli("evaluate", photos, "--weights", tiny_weights.folder, *arguments))
        assert not Path("report").exists()
