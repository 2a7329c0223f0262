"""The command line, in process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from stkit.cli import main
from tests.cli.harness import Cli, Result


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("stkit"), "handlers", [])

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["stkit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call
