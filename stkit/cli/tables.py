"""`stkit plugins`, `methods`, `inverters`, `domains`, `metrics`, `scorers`: tables, and `show NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from stkit.cli.common import console, noun_group, print_facts, print_table
from stkit.errors import StkitError, UnknownNameError
from stkit.plugins import PluginInfo, load_plugins

if TYPE_CHECKING:
    from stkit.contracts.domains import Domain
    from stkit.options import Options


def groups(plugin_list: Callable[[], list[PluginInfo]]) -> list[typer.Typer]:
    """The command groups of this file. `plugin_list` tells of all plugins, their commands included."""
    return [
        noun_group("plugins", "Show the installed plugins, and what is wrong with those that fail.",
                   lambda: _plugins(plugin_list()), lambda name: _show_plugin(plugin_list(), name)),
        noun_group("methods", "Show the editing methods, or one with its attributes.", _methods, _show_method),
        noun_group("inverters", "Show the inverters, or one with its options.", _inverters, _show_inverter),
        noun_group("domains", "Show the domains, or one with its weights and alignment.", _domains, _show_domain),
        noun_group("metrics", "Show the metrics, or one with its options.", _metrics, _show_metric),
        noun_group("scorers", "Show the scorers of samples, or one with its options.", _scorers, _show_scorer),
    ]  # fmt: skip


def _print_options(options: type[Options]) -> None:
    if not options.model_fields:
        console.print("no options (-o)")
        return
    rows = [
        (
            key,
            str(getattr(field.annotation, "__name__", field.annotation)),
            repr(field.default),
            field.description or "",
        )
        for key, field in options.model_fields.items()
    ]
    print_table(("-o KEY", "type", "default", "meaning"), rows)


def _plugins(plugins: list[PluginInfo]) -> None:
    rows = [
        (
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            plugin.status,
            "; ".join(f"{noun} {', '.join(names)}" for noun, names in plugin.registered.items() if names),
        )
        for plugin in plugins
    ]
    print_table(("plugin", "from", "status", "gives"), rows)
    for plugin in plugins:
        for problem in plugin.problems:
            console.print(Text.assemble((f"{plugin.name}:", "red"), f" {problem}"))


def _show_plugin(plugins: list[PluginInfo], name: str) -> None:
    known = {plugin.name: plugin for plugin in plugins}
    if name not in known:
        raise UnknownNameError("plugin", name, known)
    plugin = known[name]
    facts = {"plugin": plugin.name, "from": f"{plugin.distribution} {plugin.version}", "module": plugin.module}
    gives = {noun: ", ".join(names) for noun, names in plugin.registered.items() if names}
    problems = {f"problem {i + 1}": problem for i, problem in enumerate(plugin.problems)}
    print_facts({**facts, "status": plugin.status, **gives, **problems})


def _methods() -> None:
    methods = load_plugins().editing_methods.values()
    print_table(("method", "what it does", "paper"), [(m.name, m.description, m.paper) for m in methods])


def _show_method(name: str) -> None:
    import torch

    from stkit.contracts.editing import EditContext
    from stkit.weights import find_weights, weights_names

    method = load_plugins().editing_method(name)
    facts = {"method": name, "what it does": method.description, "paper": method.paper, "space": method.space}
    print_facts({**facts, "needs --ref": "yes" if method.needs_reference else "no"})
    _print_options(method.Options)
    for weights_name in weights_names():
        try:
            attributes = method.attributes(EditContext(find_weights(weights_name), torch.device("cpu")))
        except StkitError as error:
            console.print(f"with weights {weights_name}: {error}")
            continue
        console.print(f"attributes with weights {weights_name}:")
        rows = [(a.name, a.description, f"{a.safe_range[0]:g} to {a.safe_range[1]:g}") for a in attributes]
        print_table(("attribute", "what it is", "safe strengths"), rows)


def _inverters() -> None:
    inverters = load_plugins().inverters.values()
    print_table(("inverter", "what it does"), [(i.name, i.description) for i in inverters])


def _show_inverter(name: str) -> None:
    inverter = load_plugins().inverter(name)
    print_facts({"inverter": name, "what it does": inverter.description})
    _print_options(inverter.Options)


def _domains() -> None:
    domains = load_plugins().domains.values()
    print_table(("domain", "what it is", "default weights"), [(d.name, d.description, _default(d)) for d in domains])


def _default(domain: Domain) -> str:
    return ", else ".join((*domain.preferred_weights, domain.default_weights))


def _show_domain(name: str) -> None:
    domain = load_plugins().domain(name)
    print_facts(
        {
            "domain": name,
            "what it is": domain.description,
            "default weights": _default(domain),
            "training crops": f"{domain.resolution} px, alignment by {domain.template.kind}",
        }
    )


def _metrics() -> None:
    metrics = load_plugins().metrics.values()
    better = {True: "higher", False: "lower"}
    print_table(
        ("metric", "what it measures", "better"), [(m.name, m.description, better[m.higher_is_better]) for m in metrics]
    )


def _show_metric(name: str) -> None:
    metric = load_plugins().metric(name)
    print_facts({"metric": name, "what it measures": metric.description})
    _print_options(metric.Options)


def _scorers() -> None:
    scorers = load_plugins().scorers.values()
    print_table(("scorer", "what it scores"), [(s.name, s.description) for s in scorers])


def _show_scorer(name: str) -> None:
    scorer = load_plugins().scorer(name)
    print_facts({"scorer": name, "what it scores": scorer.description})
    _print_options(scorer.Options)


__all__ = ["groups"]
