"""An architecture that stkit has never seen, from a plugin: its own tests, with the plugin installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "stkit-example-generator"


def test_the_example_generators_own_tests_pass(tmp_path: Path) -> None:
    info = tmp_path / "stkit_example_generator-0.1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: stkit-example-generator\nVersion: 0.1.0\n")
    info.joinpath("entry_points.txt").write_text("[stkit]\nalias-free = stkit_alias_free\n")
    shutil.copytree(EXAMPLE / "stkit_alias_free", tmp_path / "stkit_alias_free")
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tests)]
    run = subprocess.run(pytest, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "10 passed" in run.stdout
