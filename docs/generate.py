"""Reference pages from the code: `python docs/generate.py` writes them, `--check` only says which are stale.

`plugins/hooks.md` comes from stkit/hookspecs.py and the classes that its signatures lead to, `reference/cli.md` from
`--help` of every command of the distribution stkit. Nothing here needs torch.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
_NOTE = "<!-- Written by docs/generate.py: run `make docs-reference`, do not edit. -->"
_HOOKS = """# Hooks and contracts

Implement any of these hooks in the module that your entry point names, and mark them with `@hookimpl`. All that plugins
may import is in `stkit.plugin`, the classes below among it. An
implementation may leave out arguments that it does not need. The [tutorial](tutorial.md) shows them at work.

Below them come the contracts that they register, and the classes that the contracts speak of."""
_COMMANDS = """# Commands

What `--help` says. Any command takes `--debug`, too, and then shows the traceback of an error."""


def hooks_page() -> str:
    """Every hook with its signature, the contracts that hooks name, and the classes that contracts name."""
    specs = _module("stkit.hookspecs")
    hooks = [node for node in specs.body if isinstance(node, ast.FunctionDef) and _is_hookspec(node)]
    parts = [_NOTE, _HOOKS]
    for hook in hooks:
        parts += [f"## {hook.name}", _code([_signature(hook)]), _docstring(hook, f"stkit.hookspecs.{hook.name}")]
    contracts = _classes(hooks, "stkit.hookspecs")
    beside = [found for module, node in contracts for found in _classes([node], module)]
    for (module, _), node in {(module, node.name): node for module, node in [*contracts, *beside]}.items():
        parts += _class_parts(module, node)
    return "\n\n".join(parts) + "\n"


def cli_page() -> str:
    """`--help` of every command, those of stkit's own plugins included; what other plugins add is left out."""
    os.environ.update(COLUMNS="100", TERM="dumb", NO_COLOR="1")
    import typer.main

    from stkit.cli import build_app
    from stkit.plugins import GROUP, load_entry_points

    points = importlib.metadata.entry_points(group=GROUP)
    app = build_app(load_entry_points(point for point in points if point.dist and point.dist.name == "stkit"))
    parts = [_NOTE, _COMMANDS]
    for words in _commands(typer.main.get_command(app), ["stkit"]):
        parts += [f"{'##' if len(words) < 3 else '###'} {' '.join(words)}", f"```text\n{_help(app, words)}\n```"]
    return "\n\n".join(parts) + "\n"


PAGES = {"plugins/hooks.md": hooks_page, "reference/cli.md": cli_page}


def main() -> int:
    """Write the pages, or check them: then the exit code is 1 when one is stale."""
    parser = argparse.ArgumentParser(description="Reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing, and name the pages that are stale")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale = 1
            print(f"docs/{name} is stale: run `make docs-reference` (or `python docs/generate.py`) and commit it")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    return stale


def _module(name: str) -> ast.Module:
    return ast.parse((DOCS.parent / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _classes(nodes: list[Any], module: str) -> list[tuple[str, ast.ClassDef]]:
    """(module, class) of stkit's classes that the annotations in `nodes` of `module` name, in their order."""
    tree = _module(module)
    homes = {node.name: module for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stkit."):
            homes.update({alias.name: str(node.module) for alias in node.names})
    names = [name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name) and name.id in homes]
    found = []
    for name in dict.fromkeys(names):
        found += [
            (homes[name], node)
            for node in _module(homes[name]).body
            if isinstance(node, ast.ClassDef) and node.name == name
        ]
    return found


def _class_parts(module: str, node: ast.ClassDef) -> Iterator[str]:
    """A class: what it declares, and its public methods."""
    yield f"## {node.name}"
    yield f"`{module}.{node.name}`. {_docstring(node, f'{module}.{node.name}')}"
    fields = []
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, (ast.AnnAssign, ast.Assign)):
            fields += [ast.unparse(item), *_remark(following)]
    if fields:
        yield _code(fields)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            yield f"### {node.name}.{item.name}"
            yield _code([*(f"@{ast.unparse(mark)}" for mark in item.decorator_list), _signature(item)])
            yield _docstring(item, f"{module}.{node.name}.{item.name}")


def _remark(node: ast.stmt | None) -> list[str]:
    """The string that follows a field, as a comment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return [f"# {line.strip()}" for line in str(node.value.value).strip().splitlines()]
    return []


def _is_hookspec(function: ast.FunctionDef) -> bool:
    marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in function.decorator_list]
    return any(ast.unparse(mark) == "hookspec" for mark in marks)


def _signature(function: ast.FunctionDef) -> str:
    return f"def {function.name}({ast.unparse(function.args)}) -> {ast.unparse(function.returns or ast.Constant(None))}"


def _docstring(node: ast.FunctionDef | ast.ClassDef, name: str) -> str:
    text = ast.get_docstring(node)
    if not text:
        sys.exit(f"{name} has no docstring: say what it is for, then run this again")
    return text


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _commands(command: Any, words: list[str]) -> Iterator[list[str]]:
    """The words of `command` and of all commands below it that help shows."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _commands(below, [*words, name])


def _help(app: Any, words: list[str]) -> str:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [*words[1:], "--help"], prog_name=words[0])
    if result.exit_code:
        sys.exit(f"`{' '.join(words)} --help` ends with {result.exit_code}: {result.output}")
    return "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())


if __name__ == "__main__":
    sys.exit(main())
