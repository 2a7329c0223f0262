"""What may import what: arrows go down only, and no files import each other in a circle."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

BASICS = {"errors", "options", "devices", "files", "remote", "parquet"}
BELOW_EDITOR = {
    *BASICS,
    "contracts",
    "plugins",
    "headers",
    "tensors",
    "weights",
    "photo",
    "latents",
    "datasets",
    "measure",
    "models",
}

# A room (a folder or a file of stkit, a first-party plugin or a folder beside stkit) and the rooms that it may import.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "options": {"errors"},
    "devices": {"errors"},
    "files": {"errors", "remote"},
    "remote": {"errors"},
    "parquet": {"errors"},
    "storage": {"errors"},
    "moved": set(),
    "former": {*BELOW_EDITOR, "editor", "jobs", "checkpoints"},
    "hookspecs": set(),
    "contracts": BASICS,
    "plugins": {*BASICS, "contracts", "hookspecs"},
    "headers": {*BASICS, "contracts"},
    "tensors": {*BASICS, "headers", "storage"},
    "weights": {*BASICS, "contracts", "headers", "storage", "tensors", "moved"},
    "photo": {*BASICS, "contracts"},
    "latents": {*BASICS, "contracts", "tensors", "weights"},
    "datasets": {*BASICS, "contracts", "plugins", "weights", "photo"},
    "measure": {*BASICS, "contracts", "tensors", "weights", "photo", "datasets"},
    "models": {*BASICS, "contracts", "plugins", "weights", "photo", "measure", "moved"},
    "checkpoints": {*BASICS, "contracts", "plugins", "tensors", "weights", "latents", "models", "moved"},
    "editor": BELOW_EDITOR,
    "jobs": {*BELOW_EDITOR, "editor", "checkpoints"},
    "training": {*BELOW_EDITOR, "checkpoints", "storage"},
    "testing": {*BELOW_EDITOR, "cli"},
    "stkit": {*BELOW_EDITOR, "editor", "jobs", "hookspecs", "moved"},
    "cli": {*BELOW_EDITOR, "stkit", "editor", "jobs", "checkpoints"},
    "__main__": {"cli"},
    "plugin": {*BELOW_EDITOR, "hookspecs", "editor", "jobs", "checkpoints", "training", "cli"},
    "a plugin": {"stkit", "plugin"},
    "benchmarks": {*BELOW_EDITOR, "stkit", "editor", "jobs", "training", "cli", "a plugin"},
}


@functools.cache
def modules() -> dict[str, Path]:
    """Name and file of every module that the rules are about."""
    found = {}
    for source in (".", "plugins", "examples/stkit-example-plugin"):
        for pattern in ("stkit/**/*.py", "stkit_*/**/*.py", "benchmarks/**/*.py"):
            for path in (ROOT / source).glob(pattern):
                parts = path.relative_to(ROOT / source).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    first, *rest = module.split(".")
    if first != "stkit":
        return "a plugin" if first.startswith("stkit_") else first
    return rest[0] if rest else "stkit"


@functools.cache
def imported(module: str, typed: bool = False) -> frozenset[str]:
    """The modules that `module` imports, at its top or in a function.

    Imports for type checking alone count if `typed`, and where they name what is imported lazily.
    """
    path = modules()[module]
    lazy = typed or path.name == "__init__.py" or module == "stkit.plugin"
    named = set()
    for node in _imports(ast.parse(path.read_text(encoding="utf-8")), lazy):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        else:
            assert not node.level and node.module, f"{path} imports relatively; name the whole path"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name if name in modules() else node.module for name in full}
    return frozenset(named & modules().keys() - {module})


def _imports(node: ast.AST, typed: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not typed:
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        yield from _imports(child, typed)


def file_of(module: str) -> str:
    return modules()[module].relative_to(ROOT).as_posix()


def forbidden() -> dict[tuple[str, str], str]:
    """(file, file) of the imports that the table does not allow, each with the two rooms."""
    found = {}
    for module in modules():
        here = room(module)
        for other in imported(module):
            there = room(other)
            if there != here and there not in ALLOWED[here]:
                found[file_of(module), file_of(other)] = f"{here} -> {there}"
    return found


def test_every_room_is_in_the_table() -> None:
    assert len(modules()) > 150
    assert {room(module) for module in modules()} == set(ALLOWED)


def test_the_page_about_the_rooms_names_them_all() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(?:stkit/)?(\w+)(?:\.py)?/?`", row)}
    assert named == {path.stem for path in (ROOT / "stkit").glob("[!_]*")}


def test_rooms_import_only_what_lies_below_them() -> None:
    wrong = [f"{a} imports {b} ({rooms})" for (a, b), rooms in forbidden().items()]
    assert not wrong, "\n".join(["move what is shared to a lower room:", *sorted(wrong)])


def test_the_table_has_no_circle() -> None:
    assert not circles(ALLOWED)


def test_no_files_import_each_other_in_a_circle() -> None:
    found = circles({module: set(imported(module, typed=True)) for module in modules()})
    assert not found, "\n".join(" -> ".join(map(file_of, circle)) for circle in found)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c", "b"]]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The circles that a walk along the arrows of `graph` comes upon, each from a node back to it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> None:
        if node in way:
            found.append([*way[way.index(node) :], node])
        elif node not in done:
            for other in sorted(graph[node]):
                walk(other, [*way, node])
            done.add(node)

    for node in sorted(graph):
        walk(node, [])
    return found
