"""CI runs what a contributor runs, for the Pythons that the package names; pre-commit runs what `make check` does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_ci_runs_the_same_script_on_every_python_that_the_package_names() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    (matrix,) = re.findall(r"python: \[(.*)\]", workflow)
    assert re.findall(r'"([\d.]+)"', matrix) == named
    assert f'requires-python = ">={named[0]}"' in project
    assert "os: [ubuntu-latest, macos-latest]" in workflow
    assert re.findall(r"- run: (.*)", workflow) == [".ci/run"]


def test_pre_commit_runs_what_make_check_does() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    checks = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert checks is not None
    ours = {tuple(line.split()[:2]) for line in checks[1].replace("$(BIN)", ".venv/bin").splitlines()}
    theirs = {tuple(line.split()[:2]) for line in re.findall(r"entry: (.*)", hooks)}
    assert theirs == ours and len(ours) == 3
