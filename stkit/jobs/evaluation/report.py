"""The report as files: JSON and CSV with everything, Markdown tables, an HTML page with plots and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stkit.files import atomic_path, printable, write_text
from stkit.jobs import page
from stkit.jobs.evaluation.plan import Plan
from stkit.jobs.evaluation.runner import KEPT
from stkit.jobs.evaluation.store import RECONSTRUCTION, Store

Table = tuple[str, list[str], list[list[str]]]
"""Its title, its headings, its rows."""

_WIDTH = 600  # of a column of pictures in the page
_SIDE = 1600  # of a picture in it, at most


def write_report(
    figures: Mapping[str, Any], plan: Plan, stores: Mapping[str, Store], out: Path, pictures: Mapping[str, str]
) -> None:
    """Write report.json, photos.csv, means.csv, report.md and report.html; `pictures` are file names by caption."""
    write_text(out / "report.json", json.dumps(figures, indent=1) + "\n")
    write_text(out / "photos.csv", _photos_csv(plan, stores))
    write_text(out / "means.csv", _means_csv(figures))
    write_text(out / "report.md", markdown(figures))
    with atomic_path(out / "report.html") as temporary:
        temporary.write_bytes(_page(figures, out, pictures))


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
            what = f"{edit['attribute'] or edit['method']} {edit['strength']:+g}"
            edits.append([system["name"], what, change, _number(edit["dependency"]), *kept])
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
    return printable(text.getvalue())


def _page(figures: Mapping[str, Any], out: Path, pictures: Mapping[str, str]) -> bytes:
    known = {**{name: metric["description"] for name, metric in figures["metrics"].items()}, **figures["judges"]}
    shown = [page.Table(headings, [[_plain(cell) for cell in row] for row in rows], title)
             for title, headings, rows in tables(figures)]  # fmt: skip
    if figures["notes"]:
        shown.insert(0, page.Table(["What is left out, and what to beware of"], [[note] for note in figures["notes"]]))
    shown.append(page.Table(["metric or judge", "what it is"], [[name, what] for name, what in known.items()]))
    cards = []
    for caption, name in pictures.items():
        with Image.open(out / name) as image:
            cards.append(page.Card(caption, [page.Picture(page.inline_picture(image, _SIDE))]))
    about = f"{figures['preprocessing']} {figures['timing']}"
    return page.render_page(_title(figures), about, tables=shown, cards=cards, width=_WIDTH)


def _plain(cell: str) -> str:
    return cell.strip("*")


__all__ = ["markdown", "summary", "tables", "write_report"]
