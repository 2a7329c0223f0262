"""The report as files: JSON and CSV with everything, Markdown tables, an HTML page with plots and pictures."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stkit.files import printable, write_text
from stkit.jobs.evaluation.plan import Plan
from stkit.jobs.evaluation.runner import KEPT
from stkit.jobs.evaluation.store import RECONSTRUCTION, Store

Table = tuple[str, list[str], list[list[str]]]
"""Its title, its headings, its rows."""


def write_report(
    figures: Mapping[str, Any], plan: Plan, stores: Mapping[str, Store], out: Path, pictures: Mapping[str, str]
) -> None:
    """Write report.json, photos.csv, means.csv, report.md and report.html; `pictures` are file names by caption."""
    write_text(out / "report.json", json.dumps(figures, indent=1) + "\n")
    write_text(out / "photos.csv", _photos_csv(plan, stores))
    write_text(out / "means.csv", _means_csv(figures))
    write_text(out / "report.md", markdown(figures))
    write_text(out / "report.html", _page(figures, pictures))


def tables(figures: Mapping[str, Any]) -> list[Table]:
    """What the report shows, as tables of text."""
    found = [_reconstruction(figures), _costs(figures)]
    found += [_against(figures)] if len(figures["systems"]) > 1 else []
    found += [_edits(system) for system in figures["systems"] if system["edits"]]
    return found


def summary(figures: Mapping[str, Any]) -> list[Table]:
    """What fits a terminal: means of reconstructions, and of edits at full strength what they change."""
    names = list(figures["metrics"])
    rows = [
        [
            system["name"],
            *(_number(system["means"].get(name, {}).get("mean", system["sets"].get(name))) for name in names),
        ]
        for system in figures["systems"]
    ]
    found: list[Table] = [("Reconstruction", ["", *names], rows)]
    edits = []
    for system in figures["systems"]:
        for edit in system["edits"]:
            own = [v["shift"]["mean"] for v in edit["judged"].values() if v["attribute"] == edit["attribute"]]
            change = _signed(sum(own) / len(own)) if own else ""
            kept = [_number(edit["kept"].get(name, {}).get("mean")) for name in KEPT]
            edits.append([system["name"], edit["name"], change, _number(edit["dependency"]), *kept])
    if edits:
        found.append(("Edits", ["", "edit", "change", "dependency", *(f"{name} kept" for name in KEPT)], edits))
    return found


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables and what they are of."""
    lines = [f"# {_title(figures)}", "", *(f"- {note}" for note in figures["notes"]), ""]
    for title, headings, rows in tables(figures):
        lines += [f"## {title}", "", _line(headings), _line(["---"] * len(headings)), *map(_line, rows), ""]
    lines += [figures["preprocessing"], "", figures["timing"], ""]
    lines += [f"- `{name}`: {metric['description']}" for name, metric in figures["metrics"].items()]
    lines += [f"- judge `{name}`: {description}" for name, description in figures["judges"].items()]
    return printable("\n".join(lines)) + "\n"


def _title(figures: Mapping[str, Any]) -> str:
    return f"{figures['photos']} photos of {figures['data']}, split {figures['split']}"


def _reconstruction(figures: Mapping[str, Any]) -> Table:
    names = list(figures["metrics"])
    headings = ["", *(f"{name} {'↑' if figures['metrics'][name]['higher_is_better'] else '↓'}" for name in names)]
    rows = []
    for system in figures["systems"]:
        cells = [
            _interval(system["means"][name]) if name in system["means"] else _number(system["sets"].get(name))
            for name in names
        ]
        rows.append([system["name"], *cells])
    return "Reconstruction, means with 95% intervals over photos", headings, rows


def _costs(figures: Mapping[str, Any]) -> Table:
    headings = ["", "parameters, M", "GMACs", "ms a photo", "peak MiB", "images seen*", "training, h*"]
    rows = []
    for system in figures["systems"]:
        costs, budget = system["costs"], system["budget"]
        seen = budget["steps"] * budget["batch"] if {"steps", "batch"} <= budget.keys() else None
        hours = budget["seconds"] / 3600 if "seconds" in budget else None
        million = costs["parameters"] / 1e6 if costs.get("parameters") else None
        numbers = [million, *(costs.get(name) for name in ("gmacs", "ms", "peak_mb"))]
        rows.append([system["name"], *map(_number, numbers), f"{seen:,}" if seen else "", _number(hours)])
    return "Costs, and what the encoder's last training was (*)", headings, rows


def _against(figures: Mapping[str, Any]) -> Table:
    first, *others = figures["systems"]
    names = list(first["means"])
    rows = [[system["name"], *(_interval(system["against_first"][name]) for name in names)] for system in others]
    return f"Difference from {first['name']}, photo by photo", ["", *names], rows


def _edits(system: Mapping[str, Any]) -> Table:
    judged = list(dict.fromkeys(key for edit in system["edits"] for key in edit["judged"]))
    kept = list(dict.fromkeys(name for edit in system["edits"] for name in edit["kept"]))
    sets = list(dict.fromkeys(name for edit in system["edits"] for name in edit["sets"]))
    rows = []
    for edit in system["edits"]:
        shifts = []
        for key in judged:
            shift = _signed(edit["judged"].get(key, {}).get("shift", {}).get("mean"))
            own = key.partition(":")[2] == edit["attribute"]
            shifts.append(f"**{shift}**" if own and shift else shift)
        numbers = [edit["dependency"], *(edit["kept"].get(name, {}).get("mean") for name in kept)]
        numbers += [edit["sets"].get(name) for name in sets]
        rows.append([edit["name"], *shifts, *map(_number, numbers)])
    headings = ["edit", *judged, "dependency", *(f"{name} kept" for name in kept), *sets]
    return f"Edits of {system['name']}: change in standard deviations of each judge", headings, rows


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:+.2f}"


def _interval(interval: Mapping[str, float]) -> str:
    if not interval["count"]:
        return ""
    return f"{_number(interval['mean'])} ({_number(interval['low'])} to {_number(interval['high'])})"


def _photos_csv(plan: Plan, stores: Mapping[str, Store]) -> str:
    rows = []
    for system in plan.systems:
        store = stores[system.label]
        for what in (RECONSTRUCTION, *(edit.label for edit in plan.edits_of(system))):
            for photo in plan.photos.names:
                values = store.values(what, photo).items()
                rows += [[system.label, what, photo, name, repr(value)] for name, value in values]
    return _csv(["system", "picture", "photo", "number", "value"], rows)


def _means_csv(figures: Mapping[str, Any]) -> str:
    rows: list[list[Any]] = []
    for system in figures["systems"]:
        label = system["name"]
        for name, mean in system["means"].items():
            rows.append([label, RECONSTRUCTION, name, mean["mean"], mean["low"], mean["high"], mean["count"]])
        rows += [[label, RECONSTRUCTION, name, value, "", "", ""] for name, value in system["sets"].items()]
        rows += [[label, "costs", name, value, "", "", ""] for name, value in system["costs"].items()]
        for edit in system["edits"]:
            for name, mean in edit["kept"].items():
                rows.append([label, edit["name"], f"{name} kept", *(mean[k] for k in ("mean", "low", "high", "count"))])
            for key, judged in edit["judged"].items():
                shift = judged["shift"]
                rows.append([label, edit["name"], f"change of {key}", *(shift[k] for k in shift)])
            rows.append([label, edit["name"], "dependency", edit["dependency"], "", "", ""])
            rows += [[label, edit["name"], name, value, "", "", ""] for name, value in edit["sets"].items()]
    return _csv(["system", "picture", "number", "mean", "low", "high", "photos"], rows)


def _csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}
td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
img{max-width:100%} figure{margin:1.5em 0} figcaption{color:#555}"""


def _page(figures: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    parts = [f"<h1>{_text(_title(figures))}</h1>"]
    parts += [f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in figures['notes'])}</ul>"] if figures["notes"] else []
    for title, headings, rows in tables(figures):
        head = "".join(f"<th>{_text(cell)}</th>" for cell in headings)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<h2>{_text(title)}</h2><table><tr>{head}</tr>{body}</table>")
    for caption, name in pictures.items():
        parts.append(f'<figure><img src="{_text(name)}" alt=""><figcaption>{_text(caption)}</figcaption></figure>')
    parts += [f"<p>{_text(figures[key])}</p>" for key in ("preprocessing", "timing")]
    known = {**{name: m["description"] for name, m in figures["metrics"].items()}, **figures["judges"]}
    parts.append("<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in known.items()) + "</dl>")
    head = f'<meta charset="utf-8"><title>{_text(_title(figures))}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**")
    return f"<b>{_text(text[2:-2])}</b>" if bold else _text(text)


def _text(text: str) -> str:
    return html.escape(printable(text))


__all__ = ["markdown", "summary", "tables", "write_report"]
