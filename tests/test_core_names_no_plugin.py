"""The core knows plugins by their contracts alone: no method, inverter or domain of theirs stands in it by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stkit.contracts.domains import DEFAULT_DOMAIN
from stkit.plugins import load_plugins

ROOT = Path(__file__).parent.parent / "stkit"

OWN_NETWORKS = {"style-transformer", "psp", "e4e", "restyle"}
"""Architectures of `stkit.models` that weights files name; the plugins that run them are called like them."""

KNOWN = {
    ("datasets/label_rows.py", "label"): "a column of label files",
    ("training/config.py", "plain"): "the default of `stkit train domain`, whose photos can show anything",
}
"""(file, text): why it stands there."""


def plugin_names() -> set[str]:
    registry = load_plugins()
    tables = registry.editing_methods, registry.inverters, registry.domains, registry.scorers, registry.trainers
    core_trainers = {"generator", "inverter", "mapping", "reconstruction", "domain"}
    return {name for table in tables for name in table} - OWN_NETWORKS - {DEFAULT_DOMAIN} - core_trainers


def texts(tree: ast.Module) -> Iterator[str]:
    """All string constants but docstrings; of NAME:STEPS the name."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    exports = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    said |= {id(part) for node in exports for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield re.sub(r":\d+$", "", node.value)


def found() -> set[tuple[str, str]]:
    names = plugin_names()
    assert {"ganspace", "label", "pti", "cars"} <= names
    seen = set()
    for path in ROOT.rglob("*.py"):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            if text in names:
                seen.add((path.relative_to(ROOT).as_posix(), text))
    return seen


def test_the_core_names_no_plugin() -> None:
    wrong = found() - set(KNOWN)
    assert not wrong, f"say it by the contract: {sorted(wrong)}"


@pytest.mark.parametrize("known", KNOWN, ids=":".join)
def test_known_names_are_still_there(known: tuple[str, str]) -> None:
    assert known in found()
