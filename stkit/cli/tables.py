"""`stkit plugins`, `methods`, `inverters`, `domains`, `metrics`, `scorers`, `weights`: tables, and `show NAME`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from stkit.cli.common import console
from stkit.errors import StkitError, UnknownNameError
from stkit.plugins import PluginInfo, load_plugins

if TYPE_CHECKING:
    from stkit.options import Options

Name = Annotated[str, typer.Argument(help="Its name.")]


def groups(plugin_list: Callable[[], list[PluginInfo]]) -> list[typer.Typer]:
    """The command groups of this file. `plugin_list` tells of all plugins, their commands included."""
    return [
        _group("plugins", "Installed plugins, and what is wrong with those that fail.", lambda: _plugins(plugin_list()),
               lambda name: _show_plugin(plugin_list(), name)),
        _group("methods", "Editing methods.", _methods, _show_method),
        _group("inverters", "Inverters.", _inverters, _show_inverter),
        _group("domains", "Domains.", _domains, _show_domain),
        _group("metrics", "Metrics.", _metrics, _show_metric),
        _group("scorers", "Scorers of a generator's own samples.", _scorers, _show_scorer),
        _weights_group(),
    ]  # fmt: skip


def _group(name: str, text: str, table: Callable[[], None], show: Callable[[str], None]) -> typer.Typer:
    group = typer.Typer(name=name, help=text, invoke_without_command=True)

    @group.callback()
    def list_all(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            table()

    @group.command("show", help=f"One of the {name}, in detail.")
    def show_one(name: Name) -> None:
        show(name)

    return group


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _print_facts(facts: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in facts.items():
        table.add_row(f"[bold]{escape(key)}[/]", escape(str(value)))
    console.print(table)


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
    _print_table(("-o KEY", "type", "default", "meaning"), rows)


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
    _print_table(("plugin", "from", "status", "gives"), rows)
    for plugin in plugins:
        for problem in plugin.problems:
            console.print(f"[red]{escape(plugin.name)}:[/] {escape(problem)}")


def _show_plugin(plugins: list[PluginInfo], name: str) -> None:
    known = {plugin.name: plugin for plugin in plugins}
    if name not in known:
        raise UnknownNameError("plugin", name, known)
    plugin = known[name]
    facts = {"plugin": plugin.name, "from": f"{plugin.distribution} {plugin.version}", "module": plugin.module}
    gives = {noun: ", ".join(names) for noun, names in plugin.registered.items() if names}
    problems = {f"problem {i + 1}": problem for i, problem in enumerate(plugin.problems)}
    _print_facts({**facts, "status": plugin.status, **gives, **problems})


def _methods() -> None:
    methods = load_plugins().editing_methods.values()
    _print_table(("method", "what it does", "paper"), [(m.name, m.description, m.paper) for m in methods])


def _show_method(name: str) -> None:
    import torch

    from stkit.editing import EditContext
    from stkit.weights import find_weights, weights_names

    method = load_plugins().editing_method(name)
    facts = {"method": name, "what it does": method.description, "paper": method.paper, "space": method.space}
    _print_facts({**facts, "needs --ref": "yes" if method.needs_reference else "no"})
    _print_options(method.Options)
    for weights_name in weights_names():
        try:
            attributes = method.attributes(EditContext(find_weights(weights_name), torch.device("cpu")))
        except StkitError as error:
            console.print(f"with weights {escape(weights_name)}: {escape(str(error))}")
            continue
        console.print(f"attributes with weights {escape(weights_name)}:")
        rows = [(a.name, a.description, f"{a.safe_range[0]:g} to {a.safe_range[1]:g}") for a in attributes]
        _print_table(("attribute", "what it is", "safe strengths"), rows)


def _inverters() -> None:
    inverters = load_plugins().inverters.values()
    _print_table(("inverter", "what it does"), [(i.name, i.description) for i in inverters])


def _show_inverter(name: str) -> None:
    inverter = load_plugins().inverter(name)
    _print_facts({"inverter": name, "what it does": inverter.description})
    _print_options(inverter.Options)


def _domains() -> None:
    domains = load_plugins().domains.values()
    _print_table(
        ("domain", "what it is", "default weights"), [(d.name, d.description, d.default_weights) for d in domains]
    )


def _show_domain(name: str) -> None:
    domain = load_plugins().domain(name)
    _print_facts(
        {
            "domain": name,
            "what it is": domain.description,
            "default weights": domain.default_weights,
            "training crops": f"{domain.resolution} px, alignment by {domain.template.kind}",
        }
    )


def _metrics() -> None:
    metrics = load_plugins().metrics.values()
    better = {True: "higher", False: "lower"}
    _print_table(
        ("metric", "what it measures", "better"), [(m.name, m.description, better[m.higher_is_better]) for m in metrics]
    )


def _show_metric(name: str) -> None:
    metric = load_plugins().metric(name)
    _print_facts({"metric": name, "what it measures": metric.description})
    _print_options(metric.Options)


def _scorers() -> None:
    scorers = load_plugins().scorers.values()
    _print_table(("scorer", "what it scores"), [(s.name, s.description) for s in scorers])


def _show_scorer(name: str) -> None:
    scorer = load_plugins().scorer(name)
    _print_facts({"scorer": name, "what it scores": scorer.description})
    _print_options(scorer.Options)


def _weights_group() -> typer.Typer:
    group = _group("weights", "Weights on this machine.", _weights, _show_weights)

    @group.command("verify", help="Check every file against its fingerprint and the manifest.")
    def verify(name: Name) -> None:
        from stkit.weights import find_weights, verify_weights

        report = verify_weights(find_weights(name))
        _print_table(("file", "state"), list(report.items()))
        if any(state != "ok" for state in report.values()):
            raise typer.Exit(1)

    return group


def _weights() -> None:
    from stkit.weights import find_weights, weights_names

    rows = []
    for name, folder in weights_names().items():
        try:
            weights = find_weights(name)
        except StkitError as error:
            rows.append((name, "", "", "", str(error)))
            continue
        size = sum(weights.path(kind).stat().st_size for kind in weights.kinds()) / 1e6
        rows.append((name, weights.domain, f"{weights.resolution} px", f"{size:.1f} MB", str(folder)))
    _print_table(("weights", "domain", "resolution", "size", "where"), rows)


def _show_weights(name: str) -> None:
    from stkit.weights import find_weights, load_header

    weights = find_weights(name)
    header = weights.header
    _print_facts(
        {
            "weights": weights.name,
            "where": weights.folder,
            "domain": header.domain,
            "generator": header.fingerprint,
            "config": ", ".join(f"{key} {value}" for key, value in header.config.items()),
            "alignment": header.alignment.kind,
            "licence": header.licence,
            **{str(key): value for key, value in header.notes.items()},
        }
    )
    rows = []
    for kind in weights.kinds():
        path = weights.path(kind)
        rows.append((kind, load_header(path).architecture, f"{path.stat().st_size / 1e6:.1f} MB", path.name))
    _print_table(("kind", "architecture", "size", "file"), rows)


__all__ = ["groups"]
