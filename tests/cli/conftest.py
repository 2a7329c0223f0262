"""The command line, in process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from stkit.cli import main
from tests.cli.harness import Cli, Result, Said


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


@pytest.fixture
def stkit(cli: Cli) -> Said:
    """Runs a command; all that it prints. The exit code must be `code`."""

    def call(*arguments: object, code: int = 0) -> str:
        ran = cli(*arguments)
        assert ran.code == code, ran.out + ran.err
        return ran.out + ran.err

    return call
