"""The wheel: everything is in it, the shipped weights too, and it runs away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stkit.weights import DOWNLOADS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(stkit_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(stkit_wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_all_packages_and_weights(unpacked: Path) -> None:
    for package in (ROOT / "stkit", *(ROOT / "plugins").glob("stkit_*")):
        ours = {path.relative_to(package.parent) for path in package.rglob("*.py")}
        missing = [path for path in ours if not (unpacked / path).is_file()]
        assert ours
        assert not missing
    for path in (ROOT / "weights").rglob("*.*"):
        assert (unpacked / "stkit" / "_weights" / path.relative_to(ROOT / "weights")).is_file(), path
    assert not (unpacked / "tests").exists()
    for name in DOWNLOADS:
        assert not (unpacked / "stkit" / "_weights" / name / "generator.safetensors").exists()


def test_the_wheel_finds_its_plugins_and_weights(unpacked: Path, tmp_path: Path) -> None:
    code = f"""
import stkit, stkit.weights, stkit.plugins
assert stkit.__file__.startswith({str(unpacked)!r}), stkit.__file__
assert stkit.weights.shipped_folder().name == "_weights"
print(*stkit.weights.weights_names(), *stkit.plugins.load_plugins().domains)
"""
    # -S leaves out the checkout that is installed editable; the dependencies come by PYTHONPATH.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(unpacked), *packages])}
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.split()) == ["cars", "cars", "faces", "faces", "plain"]
