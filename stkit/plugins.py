"""Plugins: found through the entry-point group `stkit`, loaded one by one, failures kept apart and told."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import re
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from stkit import hookspecs
from stkit.contracts.checkpoints import CheckpointFamily
from stkit.contracts.domains import Domain
from stkit.contracts.editing import EditingMethod
from stkit.contracts.engines import Engine
from stkit.contracts.generators import Architecture
from stkit.contracts.inversion import Inverter
from stkit.contracts.metrics import Metric
from stkit.contracts.scoring import Scorer
from stkit.contracts.training import Trainer
from stkit.errors import UnknownNameError, UsageError
from stkit.options import Options

if TYPE_CHECKING:
    import typer

    from stkit.weights import Weights

T = TypeVar("T")

GROUP = "stkit"
"""The entry-point group that plugins name their module in."""

_NOUNS: dict[str, tuple[str, type]] = {
    "register_generators": ("generator", Architecture),
    "register_editing_methods": ("editing method", EditingMethod),
    "register_inverters": ("inverter", Inverter),
    "register_domains": ("domain", Domain),
    "register_metrics": ("metric", Metric),
    "register_scorers": ("scorer", Scorer),
    "register_trainers": ("trainer", Trainer),
    "register_checkpoints": ("checkpoint family", CheckpointFamily),
    "register_engines": ("engine", Engine),
}
_HOOKS = (*_NOUNS, "register_commands")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# A plugin may call sys.exit while it loads: that must not end stkit.
_FAILURES = (Exception, SystemExit)


@dataclass(frozen=True)
class PluginInfo:
    """One plugin: where it comes from, what it registered, and what is wrong with it.

    `registered` maps a noun ("generator", "editing method", "inverter", "domain", "metric", "scorer", "trainer",
    "checkpoint family", "engine", "command") to the names that were accepted; each problem is one line. `manager` holds
    this plugin's hooks and no other's.
    """

    name: str
    distribution: str
    version: str
    module: str
    registered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    manager: pluggy.PluginManager = field(default_factory=lambda: _manager(), repr=False, compare=False)

    @property
    def status(self) -> Literal["ok", "failed"]:
        """Whether all is well: "failed" as soon as there is a problem; what `registered` names still works."""
        return "failed" if self.problems else "ok"

    @property
    def owner(self) -> str:
        """The plugin and its distribution, as messages name them."""
        return f"plugin '{self.name}' of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Registry:
    """Everything that the installed plugins registered, by name, and the plugins themselves."""

    editing_methods: dict[str, EditingMethod]
    inverters: dict[str, Inverter]
    domains: dict[str, Domain]
    metrics: dict[str, Metric]
    scorers: dict[str, Scorer]
    architectures: dict[str, Architecture]
    trainers: dict[str, Trainer]
    checkpoint_families: dict[str, CheckpointFamily]
    engines: dict[str, Engine]
    plugins: list[PluginInfo]

    def editing_method(self, name: str) -> EditingMethod:
        """The editing method `name`; raises UnknownNameError with the nearest names."""
        return _find("editing method", name, self.editing_methods)

    def inverter(self, name: str) -> Inverter:
        """The inverter `name`; raises UnknownNameError with the nearest names."""
        return _find("inverter", name, self.inverters)

    def inverter_for(self, weights: Weights, name: str | None = None) -> Inverter:
        """The inverter `name`, by default that of the weights' own encoder.

        Raises UnknownNameError, or UsageError with the inverters that need no encoder when the weights have none.
        """
        if name is None and not weights.inverters():
            free = ", ".join(sorted(name for name, inverter in self.inverters.items() if inverter.refines))
            raise UsageError(
                f"weights '{weights.name}' have no inverter; choose one that needs none with --inverter ({free}), or "
                "train one: `stkit train inverter`"
            )
        return self.inverter(name or weights.own_inverter())

    def domain(self, name: str) -> Domain:
        """The domain `name`; raises UnknownNameError with the nearest names."""
        return _find("domain", name, self.domains)

    def metric(self, name: str) -> Metric:
        """The metric `name`; raises UnknownNameError with the nearest names."""
        return _find("metric", name, self.metrics)

    def scorer(self, name: str) -> Scorer:
        """The scorer `name`; raises UnknownNameError with the nearest names."""
        return _find("scorer", name, self.scorers)

    def engine(self, name: str) -> Engine:
        """The engine `name`; raises UnknownNameError with the nearest names."""
        return _find("engine", name, self.engines)

    def architecture(self, name: str) -> Architecture:
        """The generator architecture `name`; raises UnknownNameError with the nearest names."""
        return _find("generator architecture", name, self.architectures)


def _find(noun: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownNameError(noun, name, known)
    return known[name]


@functools.cache
def load_plugins() -> Registry:
    """The registry of all installed plugins. Raises nothing: see `Registry.plugins` for what went wrong."""
    return load_entry_points(importlib.metadata.entry_points(group=GROUP))


def load_entry_points(entry_points: Iterable[importlib.metadata.EntryPoint]) -> Registry:
    """The registry of the plugins that `entry_points` name; none of their failures is raised.

    Order is fixed: the distribution `stkit` first, then by distribution and entry-point name. The
    first to register a name keeps it, and the problem of the second names both owners.
    """
    found: dict[str, dict[str, Any]] = {noun: {} for noun, _ in _NOUNS.values()}
    owners: dict[tuple[str, str], str] = {}
    located = [(*_distribution(entry_point), entry_point) for entry_point in entry_points]
    located.sort(key=lambda item: (item[0] != "stkit", item[0], item[2].name, item[2].value))
    plugins = []
    for distribution, version, entry_point in located:
        plugin = _load(PluginInfo(entry_point.name, distribution, version, entry_point.value), entry_point)
        for hook, (noun, base) in _NOUNS.items():
            plugin = _register(plugin, hook, noun, base, found[noun], owners)
        plugins.append(plugin)
    return Registry(
        found["editing method"],
        found["inverter"],
        found["domain"],
        found["metric"],
        found["scorer"],
        found["generator"],
        found["trainer"],
        found["checkpoint family"],
        found["engine"],
        plugins,
    )


def add_commands(app: typer.Typer, registry: Registry) -> list[PluginInfo]:
    """Let every plugin add its commands and groups to `app`; none of their failures is raised.

    Each plugin fills an app of its own, and what builds well and has a free name moves over. Returns
    the registry's plugins with their commands and any new problems noted.
    """
    import typer.main

    owners = dict.fromkeys(_own_names(app), "stkit itself")
    plugins = []
    for plugin in registry.plugins:
        accepted: list[str] = []
        problems: list[str] = []
        own = typer.Typer()
        try:
            results = plugin.manager.hook.register_commands(app=own)
        except _FAILURES as error:
            problems.append(f"register_commands raised {_describe(error)}")
            own = typer.Typer()
            results = []
        if results:
            problems.append(f"register_commands returned {_a(results[0])}; add to `app` and return nothing")
        if own.registered_callback is not None:
            problems.append("register_commands set app.callback(), which belongs to stkit; add a group instead")
        for label, part in _parts(own):
            try:
                names = list(typer.main.get_group(part).commands)
            except _FAILURES as error:
                problems.append(f"{label} cannot be built: {_describe(error)}")
                continue
            taken = [_clash("command", name, plugin.owner, owners[name]) for name in names if name in owners]
            problems += taken
            if not taken:
                owners.update(dict.fromkeys(names, plugin.owner))
                accepted += names
                added: list[Any] = [*part.registered_commands, *part.registered_groups]
                for command in added:
                    if not isinstance(command.rich_help_panel, str):
                        command.rich_help_panel = "Plugins"
                app.registered_commands += part.registered_commands
                app.registered_groups += part.registered_groups
        plugins.append(_noted(plugin, "command", accepted, problems))
    return plugins


def _own_names(app: typer.Typer) -> list[str | None]:
    """The names of an app's commands and groups, without building the commands, which takes 60 ms for stkit's."""
    import typer.main

    def of_function(function: object) -> str:
        return typer.main.get_command_name(getattr(function, "__name__", ""))

    commands = [command.name or of_function(command.callback) for command in app.registered_commands]
    return [*commands, *(typer.main.solve_typer_info_defaults(group).name for group in app.registered_groups)]


def _parts(app: typer.Typer) -> Iterator[tuple[str, typer.Typer]]:
    """Each command and group of `app` in an app of its own, so that it can be built and judged alone."""
    import typer

    for command in app.registered_commands:
        part = typer.Typer()
        part.registered_commands.append(command)
        yield f"command {command.name or getattr(command.callback, '__name__', '')}", part
    for group in app.registered_groups:
        part = typer.Typer()
        part.registered_groups.append(group)
        yield "a group", part


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _distribution(entry_point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution of an entry point."""
    try:
        return str(entry_point.dist.name), str(entry_point.dist.version)  # type: ignore[union-attr]
    except Exception:  # a dist-info folder without metadata, left by a broken uninstall, raises many kinds
        return "an unknown distribution", "?"


def _load(plugin: PluginInfo, entry_point: importlib.metadata.EntryPoint) -> PluginInfo:
    """Import the plugin into its manager; hooks that stkit does not have become problems."""
    try:
        module = entry_point.load()
        plugin.manager.register(module, name=plugin.name)
        callers = plugin.manager.get_hookcallers(module) or []
    except pluggy.PluginValidationError as error:
        return _noted(plugin, problems=[f"a hook has the wrong signature: {_line(str(error))}"])
    except _FAILURES as error:
        return _noted(plugin, problems=[f"cannot be imported: {_describe(error)}"])
    if not callers:
        return _noted(plugin, problems=["has no hooks; mark them with @stkit.hookimpl"])
    unknown = [caller.name for caller in callers if not caller.has_spec()]
    return _noted(plugin, problems=[str(UnknownNameError("hook", name, _HOOKS)) for name in sorted(unknown)])


def _register(
    plugin: PluginInfo, hook: str, noun: str, base: type, found: dict[str, Any], owners: dict[tuple[str, str], str]
) -> PluginInfo:
    """Call one hook of one plugin; put what is valid and new into `found` and `owners`."""
    accepted: list[str] = []
    problems: list[str] = []
    for implementation in getattr(plugin.manager.hook, hook).get_hookimpls():
        try:
            things = implementation.function()
            if not isinstance(things, (list, tuple)):
                problems.append(f"{hook} returned {_a(things)}, not a list")
                continue
            faults = [_fault(thing, noun, base) for thing in things]
        except _FAILURES as error:
            problems.append(f"{hook} raised {_describe(error)}")
            continue
        for thing, fault in zip(things, faults, strict=True):
            if fault is not None:
                problems.append(f"{hook}: {fault}")
            elif (noun, thing.name) in owners:
                problems.append(_clash(noun, thing.name, plugin.owner, owners[noun, thing.name]))
            else:
                owners[noun, thing.name] = plugin.owner
                found[thing.name] = thing
                accepted.append(thing.name)
    return _noted(plugin, noun, accepted, problems)


def _fault(thing: Any, noun: str, base: type) -> str | None:
    """What is wrong with a registered object, or None."""
    if isinstance(thing, type) and issubclass(thing, base):
        return f"{thing.__name__} is a class; register an instance of it"
    if not isinstance(thing, base):
        return f"{_a(thing)} is not {'an' if noun[0] in 'aeiou' else 'a'} {noun} (stkit's {base.__name__})"
    label = type(thing).__name__
    name = getattr(thing, "name", None)
    if not isinstance(name, str) or not _SLUG.fullmatch(name):
        return f"{label}.name is {name!r}; use lowercase letters and digits, with single hyphens between"
    description = getattr(thing, "description", None)
    if not isinstance(description, str) or not description.strip():
        return f"{label}.description is missing; say in one line what '{name}' is"
    options = getattr(thing, "Options", Options)
    if not isinstance(options, type) or not issubclass(options, Options):
        return f"{label}.Options is not a subclass of stkit.options.Options"
    if isinstance(thing, Trainer) and not dataclasses.is_dataclass(getattr(thing, "Config", None)):
        return f"{label}.Config is not a dataclass; its fields are what `stkit train {name}` can be told"
    return None


def _noted(
    plugin: PluginInfo, noun: str = "", accepted: Iterable[str] = (), problems: Iterable[str] = ()
) -> PluginInfo:
    """The same plugin with more names and problems noted."""
    names = {noun: (*plugin.registered.get(noun, ()), *accepted)} if accepted else {}
    registered = {**plugin.registered, **names}
    return dataclasses.replace(plugin, registered=registered, problems=(*plugin.problems, *problems))


def _clash(noun: str, name: str, owner: str, first: str) -> str:
    return f"{noun} '{name}' of {owner} is refused: {first} has that name already; rename or uninstall one of them"


def _a(thing: object) -> str:
    return f"an object of type {type(thing).__name__}"


def _describe(error: BaseException) -> str:
    """An exception in one line, with the place in the plugin's code that raised it."""
    text = _line("".join(traceback.format_exception_only(type(error), error)))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def _line(text: str) -> str:
    return textwrap.shorten(text, 400, placeholder=" ...")


__all__ = ["GROUP", "PluginInfo", "Registry", "add_commands", "load_entry_points", "load_plugins"]
