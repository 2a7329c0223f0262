"""What is imported when."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "sklearn", "scipy", "dlib", "numpy", "PIL")

PROBE = """
import sys
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
