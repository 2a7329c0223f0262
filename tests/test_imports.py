"""What is imported when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "scipy", "dlib", "numpy", "PIL")

PROBE = """
import sys
from pathlib import Path

import pytest
{code}
print("LOADED", *sorted(name for name in {heavy} if name in sys.modules))
"""


def loaded_after(code: str) -> list[str]:
    probe = PROBE.format(code=code, heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    last = run.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return last[1:]


def test_import_stkit_is_light() -> None:
    assert loaded_after("import stkit") == []


def test_help_is_light() -> None:
    code = """
sys.argv = ["stkit", "--help"]
import stkit.cli
try:
    stkit.cli.main()
except SystemExit as end:
    assert end.code == 0
"""
    assert loaded_after(code) == []


def test_loading_all_plugins_is_light() -> None:
    code = "from stkit.plugins import load_plugins; assert load_plugins().editing_methods"
    assert loaded_after(code) == []


@pytest.mark.slow
def test_a_folder_run_without_an_engine_imports_nothing_of_one(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from PIL import Image
import stkit
from stkit.contracts.framing import AlignmentTemplate
from stkit.testing import make_tiny_weights

here = Path({str(tmp_path)!r})
make_tiny_weights(here / "tiny", "plain", alignment=AlignmentTemplate("box", 16, ((0, 0), (16, 16))))
(here / "photos").mkdir()
Image.new("RGB", (32, 32), "red").save(here / "photos" / "x.png")
report = stkit.run(stkit.InvertRequest(here / "photos", here / "out", weights=str(here / "tiny")))
assert [row.status for row in report.rows] == ["ok"]
found = [name for name in sys.modules if name.partition(".")[0] in ("ray", "pyarrow", "s3fs", "aiohttp")]
assert not found, found
"""
    assert "torch" in loaded_after(code)
