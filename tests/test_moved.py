"""Old module paths still work for one version, and say where the module is now."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

from stkit.moved import MOVED, RENAMED

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_path_works_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning) as warned:
        module = importlib.import_module(old)
    sys.modules.pop(old)
    (warning,) = [str(entry.message) for entry in warned]
    for home in MOVED[old]:
        assert home in warning
        found = importlib.import_module(home)
        for name in found.__all__:
            assert getattr(module, name) is getattr(found, name)


def test_the_warning_names_the_line_that_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = min(MOVED)
    monkeypatch.delitem(sys.modules, old, raising=False)
    (tmp_path / "stranger.py").write_text(f"import {old}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(DeprecationWarning) as warned:
        importlib.import_module("stranger")
    del sys.modules["stranger"], sys.modules[old]
    assert Path(warned[0].filename).name == "stranger.py"


def test_nothing_lies_at_an_old_path() -> None:
    for old, homes in MOVED.items():
        path = ROOT / old.replace(".", "/")
        assert not path.with_suffix(".py").exists() and not path.is_dir()
        for home in homes:
            root = ROOT if home.startswith("stkit.") else ROOT / "plugins"
            assert (root / home.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_old_name_works_and_warns(old: str) -> None:
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is now {RENAMED[old]};") as warned:
        assert getattr(importlib.import_module(module), name) is pkgutil.resolve_name(RENAMED[old])
    assert warned[0].filename == __file__


def test_what_plugins_decide_now_still_has_its_old_names() -> None:
    from stkit.editor import refinement, steps

    with pytest.warns(DeprecationWarning, match="PREFERRED is now the `preference` of each method"):
        assert steps.PREFERRED[:2] == ("interfacegan", "label")
    with pytest.warns(DeprecationWarning, match="quality_refinements is now refinements_of"):
        assert refinement.quality_refinements("fast", ["pti:3"]) == ("pti:3",)
