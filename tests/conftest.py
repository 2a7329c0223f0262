"""Fixtures that all tests share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import pytest
import torch
from filelock import FileLock

from stkit.files import file_sha256
from stkit.testing import make_tiny_weights
from stkit.weights import Weights, find_weights, user_folder

ROOT = Path(__file__).parent.parent

torch.set_num_threads(1)  # tiny tensors: threads cost more than they give


# A shell that starts the tests in the background lets them and their children ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the real user's weights and cache."""
    monkeypatch.setenv("STKIT_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Randomly initialised weights of 16 px."""
    return make_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="session")
def stkit_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout's wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    with FileLock(Path(tempfile.gettempdir()) / "stkit-wheel.lock"):  # pip builds in the checkout
        subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("stkit-*.whl")
    return wheel


@pytest.fixture(scope="session")
def ffhq_wheel(pytestconfig: pytest.Config) -> Path:
    """The wheel that holds the FFHQ generator: `make setup` put it beside the venv, or it is fetched once."""
    package = ("random-face", "2021.7.21.1")
    name = f"{package[0].replace('-', '_')}-{package[1]}-py3-none-any.whl"
    cache = Path(pytestconfig.cache.mkdir("wheels"))
    wheel = next((p / name for p in (Path(sys.prefix) / "wheels", cache) if (p / name).is_file()), cache / name)
    if not wheel.is_file():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
        run = subprocess.run([*pip, "==".join(package)], capture_output=True, text=True, check=False)
        if run.returncode:
            pytest.skip(f"no package index can be reached: {run.stderr.splitlines()[-1:]}")
    wanted = json.loads((ROOT / "tests" / "goldens" / "random_face_1024.json").read_text())["wheel_sha256"]
    assert file_sha256(wheel) == wanted, f"{wheel} is damaged; delete it"
    return wheel


@pytest.fixture(scope="session")
def converted_ffhq(ffhq_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with the FFHQ generator."""
    from stkit.checkpoints.download import load_official
    from stkit.checkpoints.packages import install_generator

    home = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STKIT_HOME", str(home))
        return install_generator(load_official()["ffhq"], ffhq_wheel).folder


@pytest.fixture
def ffhq(converted_ffhq: Path) -> Weights:
    """Weights `ffhq` as the test's user has them after the download."""
    shutil.copytree(converted_ffhq, user_folder() / "ffhq", copy_function=os.link)
    return find_weights("ffhq")


@pytest.fixture(scope="session")
def equipped_weights(tiny_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """`tiny_weights` in a folder of their own, with what editing methods need to have an attribute."""
    from stkit_label.network import LatentClassifier, LatentClassifierConfig
    from stkit_label.training import export_classifier
    from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig
    from stkit_reference.training import export_reference
    from stkit_stylespace.channels import KIND, rank_channels, save_ranking, styles_of

    from stkit.latents.directions import Direction, save_direction
    from stkit.models.registry import sample_w
    from stkit.options import LatentSpace

    folder = Path(shutil.copytree(tiny_weights.folder, tmp_path_factory.mktemp("weights") / "equipped"))
    weights = find_weights(str(folder))
    vector = torch.nn.functional.normalize(torch.arange(1.0, weights.w_dim + 1), dim=0)
    direction = Direction("smile", "planted", vector, LatentSpace.W, weights.fingerprint, 0.5, (-3.0, 3.0))
    save_direction(folder / "direction-smile.safetensors", direction, weights)
    w = sample_w(weights, 500)
    ranking = rank_channels(styles_of(weights, w), w[:, 0] > w[:, 0].median())
    save_ranking(folder / f"{KIND}-smile.safetensors", "smile", ranking, weights, {})
    size = (weights.num_ws, weights.w_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = LatentClassifier(LatentClassifierConfig(("age", "smile"), *size, widths=(32, 16), embedding=4))
        classifier.calibrate(torch.randn(500, *size))
        block = ReferenceBlock(ReferenceBlockConfig(("age", "smile"), *size, heads=2, feedforward=32))
        torch.nn.init.normal_(block.output.weight, std=0.1)  # as if trained
    export_classifier(classifier, folder, weights)
    export_reference(block, folder, weights)
    return weights


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A real photo: Grace Hopper's official portrait, public domain, from matplotlib's sample data."""
    source = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return Path(shutil.copy(source, tmp_path / "grace.jpg"))
