"""Plugins as real modules with real dist-info folders: what breaks is told, and the plugin beside it works."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stkit.cli import build_app
from stkit.errors import UnknownNameError
from stkit.plugins import PluginInfo, Registry, add_commands, load_entry_points, load_plugins

METRIC = """
import stkit
from stkit.contracts.metrics import Metric
from stkit.options import Options

class {cls}(Metric):
    name = "{name}"
    description = "always zero"
    higher_is_better = False

    def compute(self, images, references, options):
        return {{self.name: 0.0}}
"""
REGISTER = """
@stkit.hookimpl
def register_metrics():
    return [{cls}()]
"""
COMMANDS = """
import typer
import stkit

group = typer.Typer()

@group.command()
def inner():
    typer.echo("inner of {word}")

@stkit.hookimpl
def register_commands(app):
    @app.command("{command}")
    def any_name():
        typer.echo("hello from {word}")

    app.add_typer(group, name="{group}")
"""


def metric(name: str, cls: str = "Zero") -> str:
    return METRIC.format(name=name, cls=cls) + REGISTER.format(cls=cls)


class Site:
    """A site-packages of our own: `install` adds a distribution, `load` loads the plugins of all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, distribution: str, **sources: str) -> None:
        """One plugin a keyword: its entry-point name and its source."""
        info = self.path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = ["[stkit]"]
        for name, source in sources.items():
            module = f"{distribution.replace('-', '_')}_{name}_module"
            self.path.joinpath(f"{module}.py").write_text(textwrap.dedent(source))
            lines.append(f"{name} = {module}")
        info.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()

    def load(self) -> Registry:
        found = importlib.metadata.distributions(path=[str(self.path)])
        return load_entry_points(point for each in found for point in each.entry_points if point.group == "stkit")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Site(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def named(plugins: list[PluginInfo], name: str) -> PluginInfo:
    (plugin,) = [plugin for plugin in plugins if plugin.name == name]
    return plugin


def works(registry: Registry, name: str) -> bool:
    metric: Any = registry.metric(name)
    return metric.compute(None, None, None) == {name: 0.0}


def test_installed_plugins_are_found_by_importlib_metadata(site: Site) -> None:
    site.install("acme", shiny=metric("acme-shine"))
    load_plugins.cache_clear()
    try:
        registry = load_plugins()
        assert load_plugins() is registry
    finally:
        load_plugins.cache_clear()
    assert works(registry, "acme-shine")
    plugin = named(registry.plugins, "shiny")
    assert (plugin.distribution, plugin.version, plugin.module) == ("acme", "1.2", "acme_shiny_module")
    assert (plugin.status, plugin.registered, plugin.problems) == ("ok", {"metric": ("acme-shine",)}, ())


BROKEN = {
    "import error": ("import no_such_module_anywhere", ["cannot be imported", "no_such_module_anywhere"]),
    "syntax error": ("def broken(:", ["cannot be imported", "SyntaxError", "broken_module.py"]),
    "exit at import": ("raise SystemExit(3)", ["cannot be imported", "SystemExit: 3"]),
    "no hooks": ("def register_metrics(): return []", ["has no hooks", "@stkit.hookimpl"]),
    "misspelt hook": (
        "import stkit\n@stkit.hookimpl\ndef register_metrik(): return []",
        ["no hook named 'register_metrik'", "did you mean register_metrics"],
    ),
    "wrong signature": (
        "import stkit\n@stkit.hookimpl\ndef register_metrics(gizmo): return []",
        ["wrong signature", "register_metrics", "gizmo"],
    ),
    "hook raises": (
        "import stkit\n@stkit.hookimpl\ndef register_metrics():\n    raise ValueError('two\\nlines')",
        ["register_metrics raised ValueError: two lines", "broken_module.py:4"],
    ),
    "hook exits": (
        "import sys, stkit\n@stkit.hookimpl\ndef register_metrics():\n    sys.exit('bye')",
        ["register_metrics raised SystemExit: bye"],
    ),
    "hook returns no list": (
        "import stkit\n@stkit.hookimpl\ndef register_metrics():\n    return 'mse'",
        ["register_metrics returned an object of type str, not a list"],
    ),
    "hook returns nothing": (
        "import stkit\n@stkit.hookimpl\ndef register_domains():\n    pass",
        ["register_domains returned an object of type NoneType, not a list"],
    ),
    "foreign object": (
        "import stkit\n@stkit.hookimpl\ndef register_editing_methods():\n    return [7]",
        ["an object of type int is not an editing method", "EditingMethod"],
    ),
    "class for an instance": (metric("x").replace("[Zero()]", "[Zero]"), ["Zero is a class; register an instance"]),
    "abstract method missing": (metric("x").replace("def compute", "def compote"), ["raised TypeError", "compute"]),
    "bad name": (metric("My Metric"), ["Zero.name is 'My Metric'", "lowercase"]),
    "no name": (metric("x").replace("name = ", "title = "), ["Zero.name is None", "lowercase"]),
    "no description": (metric("x").replace("always zero", " "), ["Zero.description is missing", "'x'"]),
    "foreign options": (
        metric("x").replace("    def compute", "    Options = dict\n\n    def compute"),
        ["Zero.Options is not a subclass of stkit.options.Options"],
    ),
}


@pytest.mark.parametrize(("source", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_plugin_is_told_and_the_one_beside_it_works(source: str, words: list[str], site: Site) -> None:
    site.install("aardvark", broken=source)
    site.install("zebra", intact=metric("intact"))
    registry = site.load()
    broken, intact = registry.plugins
    assert broken.status == "failed"
    assert broken.registered == {}
    (problem,) = broken.problems
    assert "\n" not in problem
    for word in words:
        assert word in problem
    assert (intact.status, intact.registered) == ("ok", {"metric": ("intact",)})
    assert works(registry, "intact")
    assert list(registry.metrics) == ["intact"]


def test_what_is_right_in_a_plugin_with_a_problem_still_works(site: Site) -> None:
    wrong = "\n@stkit.hookimpl\ndef register_inverter(): return []\n"
    bad = METRIC.format(name="Bad!", cls="Bad")
    source = metric("good") + bad + wrong
    site.install("mixed", mixed=source.replace("[Zero()]", "[Bad(), Zero()]"))
    registry = site.load()
    (plugin,) = registry.plugins
    assert plugin.status == "failed"
    assert len(plugin.problems) == 2
    assert plugin.registered == {"metric": ("good",)}
    assert registry.metric("good").name == "good"


def test_duplicate_names_go_to_the_first_and_both_owners_are_named(site: Site) -> None:
    site.install("zulu", late=metric("sharpness"), later=metric("own"))
    site.install("alpha", early=metric("sharpness"))
    registry = site.load()
    assert [plugin.name for plugin in registry.plugins] == ["early", "late", "later"]
    assert type(registry.metric("sharpness")).__module__ == "alpha_early_module"
    assert named(registry.plugins, "early").problems == ()
    late = named(registry.plugins, "late")
    assert late.registered == {}
    (problem,) = late.problems
    assert "metric 'sharpness'" in problem
    assert "plugin 'late' of zulu 1.2 is refused" in problem
    assert "plugin 'early' of alpha 1.2 has that name already" in problem
    assert registry.metric("own").name == "own"


def test_stkit_comes_before_every_other_distribution(site: Site) -> None:
    site.install("aardvark", first=metric("mse"))
    site.install("stkit", zz=metric("mse"))
    registry = site.load()
    assert type(registry.metric("mse")).__module__ == "stkit_zz_module"
    assert [plugin.distribution for plugin in registry.plugins] == ["stkit", "aardvark"]


def test_same_name_of_another_noun_is_no_duplicate(site: Site) -> None:
    inverter = """
    import stkit
    from stkit.contracts.inversion import Inverter

    class Same(Inverter):
        name = "same"
        description = "an inverter"

        def invert(self, crops, options, context):
            raise NotImplementedError

    @stkit.hookimpl
    def register_inverters():
        return (Same(),)
    """
    site.install("acme", one=metric("same"), two=inverter)
    registry = site.load()
    assert [plugin.status for plugin in registry.plugins] == ["ok", "ok"]
    assert registry.inverter("same").description == "an inverter"
    assert registry.metric("same").description == "always zero"


def test_distribution_without_metadata_is_no_reason_to_fail(site: Site) -> None:
    site.install("ghost", haunting=metric("ghost"))
    (site.path / "ghost-1.2.dist-info" / "METADATA").unlink()
    site.install("zebra", intact=metric("intact"))
    registry = site.load()
    assert set(registry.metrics) == {"ghost", "intact"}


def test_entry_point_of_no_distribution(site: Site) -> None:
    site.path.joinpath("lone_module.py").write_text(metric("lone"))
    importlib.invalidate_caches()
    registry = load_entry_points([importlib.metadata.EntryPoint("lone", "lone_module", "stkit")])
    assert registry.metric("lone").name == "lone"
    assert registry.plugins[0].owner == "plugin 'lone' of an unknown distribution ?"


def test_unknown_names_suggest_the_nearest(site: Site) -> None:
    site.install("acme", one=metric("sharpness"))
    registry = site.load()
    with pytest.raises(UnknownNameError, match=r"no metric named 'sharpnes': did you mean sharpness\?"):
        registry.metric("sharpnes")
    nouns = {"editing method": registry.editing_method, "inverter": registry.inverter, "domain": registry.domain}
    for noun, look_up in nouns.items():
        with pytest.raises(UnknownNameError, match=f"no {noun} is installed; see `stkit plugins`"):
            look_up("anything")


def core_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def edit() -> None:
        typer.echo("the real edit")

    app.add_typer(typer.Typer(), name="train")
    return app


def outcome(app: typer.Typer, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_commands_and_groups_of_plugins_run(site: Site) -> None:
    site.install("acme", one=COMMANDS.format(command="shine", group="polish", word="acme"))
    app = core_app()
    (plugin,) = add_commands(app, site.load())
    assert (plugin.status, plugin.registered) == ("ok", {"command": ("shine", "polish")})
    assert outcome(app, "shine") == (0, "hello from acme\n")
    assert outcome(app, "polish", "inner") == (0, "inner of acme\n")
    assert outcome(app, "edit") == (0, "the real edit\n")
    added = [*app.registered_commands[1:], *app.registered_groups[1:]]
    assert [getattr(part, "rich_help_panel", None) for part in added] == ["Plugins", "Plugins"]


def test_command_names_that_are_taken_are_refused_with_both_owners(site: Site) -> None:
    site.install("alpha", one=COMMANDS.format(command="edit", group="polish", word="alpha"))
    site.install("beta", two=COMMANDS.format(command="shine", group="polish", word="beta"))
    app = core_app()
    registry = site.load()
    one, two = add_commands(app, registry)
    assert one.registered == {"command": ("polish",)}
    assert "command 'edit' of plugin 'one' of alpha 1.2 is refused: stkit itself has" in one.problems[0]
    assert two.registered == {"command": ("shine",)}
    (problem,) = two.problems
    assert "command 'polish' of plugin 'two' of beta 1.2 is refused: plugin 'one' of alpha 1.2 has" in problem
    assert outcome(app, "edit") == (0, "the real edit\n")
    assert outcome(app, "polish", "inner") == (0, "inner of alpha\n")
    assert outcome(app, "shine") == (0, "hello from beta\n")
    assert [plugin.problems for plugin in registry.plugins] == [(), ()]
    assert [plugin.registered for plugin in add_commands(core_app(), registry)] == [one.registered, two.registered]


def test_the_table_of_plugins_tells_of_commands_that_stkit_has(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("alpha", one=COMMANDS.format(command="edit", group="polish", word="alpha"))
    monkeypatch.setattr("stkit.cli.load_plugins", site.load)
    build_app()(["plugins", "show", "one"], standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "command 'edit' of plugin 'one' of alpha 1.2 is refused: stkit itself has" in said


HOOK = "import typer\nimport stkit\n@stkit.hookimpl\ndef register_commands(app):\n"
BROKEN_COMMANDS = {
    "raises half way": (
        HOOK + "    app.command('half')(lambda: None)\n    raise RuntimeError('half way')",
        ["register_commands raised RuntimeError: half way", "broken_module.py:6"],
    ),
    "exits": (HOOK + "    raise SystemExit(1)", ["register_commands raised SystemExit: 1"]),
    "a command that cannot be built": (
        HOOK + "    @app.command()\n    def odd(x: int | str): pass",
        ["command odd cannot be built", "Union"],
    ),
    "sets the callback": (HOOK + "    app.callback()(lambda: None)", ["set app.callback(), which belongs to stkit"]),
    "returns something": (HOOK + "    return [1]", ["returned an object of type list", "add to `app`"]),
    "nameless group over a core command": (
        HOOK + "    group = typer.Typer()\n    group.command('edit')(lambda: None)\n    app.add_typer(group)",
        ["command 'edit' of plugin 'broken' of aardvark 1.2 is refused"],
    ),
}


@pytest.mark.parametrize(("source", "words"), BROKEN_COMMANDS.values(), ids=BROKEN_COMMANDS.keys())
def test_broken_commands_are_told_and_those_beside_them_run(source: str, words: list[str], site: Site) -> None:
    site.install("aardvark", broken=source)
    site.install("zebra", intact=COMMANDS.format(command="shine", group="polish", word="zebra"))
    app = core_app()
    broken, intact = add_commands(app, site.load())
    (problem,) = broken.problems
    for word in words:
        assert word in problem
    assert (broken.status, broken.registered) == ("failed", {})
    assert intact.status == "ok"
    assert outcome(app, "shine") == (0, "hello from zebra\n")
    assert outcome(app, "edit") == (0, "the real edit\n")
    assert set(typer.main.get_group(app).commands) == {"edit", "train", "shine", "polish"}


def test_loading_plugins_imports_no_torch() -> None:
    code = (
        "import sys, stkit.plugins; registry = stkit.plugins.load_plugins(); "
        "print([name for name in ('torch', 'sklearn', 'dlib', 'scipy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
