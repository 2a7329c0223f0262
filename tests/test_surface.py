"""What plugins may import, and that `__all__` tells the truth everywhere."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import stkit
import stkit.plugin
from tests.test_imports import loaded_after

ROOT = Path(__file__).parent.parent
PLUGINS = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
PUBLIC = {"stkit": set(stkit.__all__), "stkit.plugin": set(stkit.plugin.__all__)}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module of stkit, name) of every import, wherever it stands; the name is empty where the module is imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stkit":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "stkit")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plugins_import_what_is_declared(path: Path) -> None:
    for module, name in imports(path):
        if module == "stkit.testing" and "tests" in path.parts:
            continue
        assert module in PUBLIC, f"{module} is stkit's own; what plugins may import is in stkit.plugin"
        assert not name or name in PUBLIC[module], f"{module} does not name {name}"


def test_imports_are_seen() -> None:
    assert sum(len(list(imports(path))) for path in PLUGINS) > 400


@pytest.mark.parametrize("module", [stkit, stkit.plugin], ids=lambda module: module.__name__)
def test_what_is_typed_is_what_is_there(module: object) -> None:
    """The imports for type checking name all lazy names, each from its home, and no other."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    homes = {}
    for node in typed.body:
        assert isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names:
            homes[alias.asname or alias.name] = (node.module.removeprefix("stkit."), alias.name)
    lazy = module._HOME  # type: ignore[attr-defined]
    assert homes == {name: home if isinstance(home, tuple) else (home, name) for name, home in lazy.items()}
    names = module.__all__  # type: ignore[attr-defined]
    assert sorted({*names} - {"hookimpl", "__version__"}) == sorted({*lazy} - {"hookimpl"})
    for name in names:
        assert getattr(module, name) is not None
    assert set(names) <= set(dir(module))


def test_the_surface_costs_nothing_until_it_is_used() -> None:
    assert loaded_after("import stkit.plugin; from stkit.plugin import EditingMethod, Trainer, hookimpl") == []
    with pytest.raises(AttributeError, match="plugins may import what __all__ lists"):
        stkit.plugin.anything  # noqa: B018


def own_modules() -> list[str]:
    found = []
    for source in (ROOT, ROOT / "plugins"):
        for path in source.glob("stkit*/**/*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(set(found) - {"stkit.plugin", "stkit.__main__"})


@pytest.mark.parametrize("name", own_modules())
def test_all_lists_what_is_public_and_nothing_else(name: str) -> None:
    module = importlib.import_module(name)
    listed = list(getattr(module, "__all__", []))
    assert len(listed) == len(set(listed))
    assert [entry for entry in listed if not hasattr(module, entry)] == []
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    assert sorted(defined - set(listed)) == [], "list them in __all__, or begin their names with _"
