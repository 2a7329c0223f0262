"""The report's pictures: plots by matplotlib, and photos beside their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stkit.files import atomic_path
from stkit.jobs.evaluation.figures import column
from stkit.jobs.evaluation.plan import Plan
from stkit.jobs.evaluation.runner import inverted
from stkit.jobs.evaluation.store import RECONSTRUCTION, Store
from stkit.photo.images import image_grid, save_image, to_image

_SHOWN = 8  # photos in a row of pictures


def draw_all(figures: Mapping[str, Any], plan: Plan, stores: Mapping[str, Store], out: Path) -> dict[str, str]:
    """Draw what there is to draw into `out`; file names by caption."""
    found: dict[str, Path] = {}
    if photos := _of_all(plan, stores):
        found["Random photos, each over its reconstructions"] = _grid(plan, stores, _random(photos), out / "random.jpg")
        found["The photos that all reconstruct worst"] = _grid(
            plan, stores, _worst(plan, stores, photos), out / "worst.jpg"
        )
    if plan.plots:
        if any(metric.name == "lpips" for metric in plan.paired):
            found["LPIPS of all photos"] = _draw(out / "lpips.png", lambda axes: _histograms(axes, plan, stores))
        attributes = list(dict.fromkeys(e["attribute"] for s in figures["systems"] for e in s["edits"] if _own(e)))
        for number, attribute in enumerate(attributes, 1):
            caption = f"Response: strength of {attribute} and what its judges see"
            found[caption] = _draw(
                out / f"response-{number}.png", partial(_responses, figures=figures, attribute=attribute)
            )
        if any(edit["dependency"] is not None for s in figures["systems"] for edit in s["edits"]):
            caption = "Distortion against editability: lower and further right is better"
            found[caption] = _draw(out / "tradeoff.png", lambda axes: _tradeoff(axes, figures))
    return {caption: path.name for caption, path in found.items()}


def _of_all(plan: Plan, stores: Mapping[str, Store]) -> list[str]:
    """The photos that all systems have inverted."""
    everywhere = [set(inverted(plan, store)) for store in stores.values()]
    return [photo for photo in plan.photos.names if all(photo in photos for photos in everywhere)]


def _random(photos: Sequence[str]) -> list[str]:
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0))
    return [photos[i] for i in order[:_SHOWN].tolist()]


def _worst(plan: Plan, stores: Mapping[str, Store], photos: Sequence[str]) -> list[str]:
    """By the first error of pairs, on average over the systems."""
    if not plan.paired:
        return list(photos[:_SHOWN])
    metric = next((metric for metric in plan.paired if not metric.higher_is_better), plan.paired[0])
    values = [column(stores[s.label], RECONSTRUCTION, photos, metric.name) for s in plan.systems]
    mean = np.mean(values, 0) * (1 if metric.higher_is_better else -1)
    return [photos[i] for i in np.argsort(mean)[:_SHOWN]]


def _grid(plan: Plan, stores: Mapping[str, Store], photos: Sequence[str], path: Path) -> Path:
    editor = plan.systems[0].editor
    tiles = [to_image(image) for image in plan.photos.references(photos, editor.domain, editor.weights.resolution)]
    captions = ["photo"] * len(tiles)
    for system in plan.systems:
        tiles += [to_image(image) for image in stores[system.label].pictures(RECONSTRUCTION, photos)]
        captions += [system.label] * len(photos)
    save_image(image_grid(tiles, len(photos), captions), path)
    return path


def _draw(path: Path, draw: Callable[[Any], None]) -> Path:
    """A plot by `draw`, without a window or a global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    return path


def _histograms(axes: Any, plan: Plan, stores: Mapping[str, Store]) -> None:
    values = [column(stores[s.label], RECONSTRUCTION, plan.photos.names, "lpips") for s in plan.systems]
    bins = np.linspace(0, max(float(np.nanmax(each)) for each in values) * 1.02, 40)
    for system, each in zip(plan.systems, values, strict=True):
        axes.hist(each, bins=bins, histtype="step", linewidth=1.8, label=system.label)
    axes.set(xlabel="LPIPS (Alex, 256 px)", ylabel="photos")


def _own(edit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the judges of the edited attribute itself say."""
    return [values for values in edit["judged"].values() if values["attribute"] == edit["attribute"]]


def _responses(axes: Any, figures: Mapping[str, Any], attribute: str) -> None:
    for system in figures["systems"]:
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for edit in system["edits"]:
            for key, values in edit["judged"].items():
                if edit["attribute"] == attribute == values["attribute"]:
                    shift = values["shift"]
                    name = f"{system['name']} {edit['method']}, {key.partition(':')[0]}"
                    lines.setdefault(name, [(0.0, 0.0, 0.0, 0.0)]).append(
                        (edit["strength"], shift["mean"], shift["low"], shift["high"])
                    )
        for name, points in lines.items():
            strength, mean, low, high = np.array(sorted(points)).T
            axes.errorbar(strength, mean, np.stack([mean - low, high - mean]), marker="o", capsize=3, label=name)
    axes.axhline(0, color="#bbb", linewidth=0.8)
    axes.set(xlabel=f"strength of {attribute}", ylabel="change, standard deviations of the judge")


def _tradeoff(axes: Any, figures: Mapping[str, Any]) -> None:
    """Each system: its LPIPS, and how much of an edit's change is its own attribute's."""
    for system in figures["systems"]:
        shares = []
        for edit in system["edits"]:
            own = [abs(values["shift"]["mean"]) for values in _own(edit)]
            if own and edit["dependency"]:
                shares.append(float(np.mean(own)) / edit["dependency"])
        if shares and "lpips" in system["means"]:
            axes.scatter(np.mean(shares), system["means"]["lpips"]["mean"], s=60, label=system["name"])
    axes.set(xlabel="change of the edited attribute / of the others (mean over edits)", ylabel="LPIPS")


__all__ = ["draw_all"]
