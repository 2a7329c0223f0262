"""What `stkit --help` looks like, and how large a command may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Cli

ROOT = Path(__file__).parent.parent.parent
MOST_LINES, MOST_PARAMETERS = 60, 15


def test_commands_are_grouped_and_explained_in_whole_sentences(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = cli("--help").out
    panels = [line.strip("╭─╮ ") for line in said.splitlines() if line.startswith("╭")]
    assert panels == ["Options", "Edit photos", "Look", "Models", "Train", "Plugins"]
    rows = [line.strip("│ ") for line in said.split("Edit photos", 1)[1].splitlines() if line.startswith("│")]
    assert len(rows) > 15
    for row in rows:
        assert row.endswith(".") and not row.endswith("..."), row
        assert row.split(maxsplit=1)[1][0].isupper(), row


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    """All functions of the command line and of plugins: commands, and what they could hide behind."""
    for path in [*(ROOT / "stkit/cli").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_no_command_is_long_or_takes_many_parameters() -> None:
    seen = 0
    for path, node in functions():
        seen += 1
        lines = (node.end_lineno or 0) - node.lineno + 1
        parameters = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        assert lines <= MOST_LINES, f"{path}: {node.name} has {lines} lines; move what it does to a job or a recipe"
        assert parameters <= MOST_PARAMETERS, (
            f"{path}: {node.name} has {parameters} parameters; make a dataclass of them"
        )
    assert seen > 300
