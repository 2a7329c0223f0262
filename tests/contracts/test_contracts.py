"""Every registered plugin keeps its contract, and the checks that say so notice when one does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ConfigDict

from stkit.contracts.domains import Domain, Subject
from stkit.contracts.editing import Attribute, EditContext, EditingMethod, find_attribute
from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.inversion import InversionContext, Inverter
from stkit.contracts.metrics import Metric
from stkit.errors import UsageError
from stkit.latents.latents import Latents
from stkit.options import LatentSpace, Options
from stkit.photo.alignment import points_transform
from stkit.plugins import load_plugins
from stkit.testing import (
    check_domain,
    check_editing_method,
    check_inverter,
    check_metric,
    check_scorer,
    random_latents,
)
from stkit.weights import Weights

PHOTOS = {"faces": "grace_hopper.jpg"}
"""A photo with a subject, from matplotlib's sample data, by domain."""

QUICK: dict[str, dict[str, Any]] = {"optimize": {"steps": 3}, "pti": {"steps": 2, "pivot_steps": 2}}
"""Options that make inverters quick, by inverter."""


def photo_of(domain: Domain) -> Image.Image | None:
    if domain.name not in PHOTOS:
        return None
    with Image.open(Path(matplotlib.get_data_path(), "sample_data", PHOTOS[domain.name])) as image:
        return image.convert("RGB")


def registered() -> list[Any]:
    registry = load_plugins()
    nouns: dict[str, dict[str, Any]] = {
        "editing method": registry.editing_methods,
        "inverter": registry.inverters,
        "domain": registry.domains,
        "metric": registry.metrics,
        "scorer": registry.scorers,
    }
    return [
        pytest.param(noun, thing, id=f"{noun} {name}")
        for noun, things in nouns.items()
        for name, thing in things.items()
    ]


@pytest.mark.parametrize(("noun", "thing"), registered())
def test_what_is_registered_keeps_its_contract(noun: str, thing: Any, equipped_weights: Weights) -> None:
    if noun == "editing method":
        check_editing_method(thing, equipped_weights)
    elif noun == "inverter":
        check_inverter(thing, equipped_weights, **QUICK.get(thing.name, {}))
    elif noun == "domain":
        check_domain(thing, photo_of(thing))
    elif noun == "scorer":
        check_scorer(thing)
    elif thing.name != "fid":  # needs weights that are not ours to ship; tests/plugins/test_metrics.py
        check_metric(thing)


def test_our_own_plugins_load_without_problems() -> None:
    own = [plugin for plugin in load_plugins().plugins if plugin.distribution == "stkit"]
    assert own
    assert {plugin.name: plugin.problems for plugin in own if plugin.problems} == {}


class Shift(EditingMethod[Options]):
    """Adds strength to the codes; each fault in `faults` breaks one promise."""

    name = "shift"
    description = "adds the strength"
    paper = "none"
    needs_reference = True

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.calls = 0

    def attributes(self, context: EditContext) -> list[Attribute]:
        names = ["all", "all"] if "twice" in self.faults else ["all"]
        safe_range = (1.0, 1.0) if "range" in self.faults else (-3.0, 3.0)
        return [Attribute(name, "all of it", safe_range) for name in names]

    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        self.calls += 1
        if "attribute" not in self.faults:
            find_attribute(self, context)
        if context.references is None and "reference" not in self.faults:
            raise UsageError("shift needs --ref")
        by = torch.zeros_like(latents.codes)
        num_ws = latents.codes.shape[1]
        if "beyond" in self.faults:
            num_ws = 1000
        layers = context.layers.indices(num_ws) if context.layers else range(num_ws)
        by[:, layers.start : layers.stop] = context.strength
        if "layers" in self.faults:
            by = torch.full_like(by, context.strength)
        if "drift" in self.faults:
            by = by + 1e-3
        if "random" in self.faults:
            by = by + self.calls * 1e-3 * context.strength
        if "idle" in self.faults:
            by = by * 0
        if "in place" in self.faults:
            latents.codes.add_(by)
        codes = latents.codes + by
        if "nan" in self.faults:
            codes = codes * float("nan")
        if "double" in self.faults:
            codes = codes.double()
        if "gradient" in self.faults:
            codes.requires_grad_()
        if "shape" in self.faults:
            return Latents(codes[:, :-1], latents.generator, provenance=latents.provenance)
        if "lost" in self.faults:
            return Latents(codes, latents.generator)
        edited = latents.replace(codes, edit="shift")
        if "fingerprint" in self.faults:
            return dataclasses.replace(edited, generator="another")
        if "provenance" in self.faults:
            return dataclasses.replace(edited, provenance=edited.provenance[::-1])
        return edited


class Wordless(Shift):
    paper = " "


class LaxOptions(Options):
    model_config = ConfigDict(extra="ignore")


class Lax(Shift):
    Options = LaxOptions


class DemandingOptions(Options):
    needed: int


class Demanding(Shift):
    Options = DemandingOptions


def test_a_sound_method_passes(tiny_weights: Weights) -> None:
    method = Shift()
    check_editing_method(method, tiny_weights)
    assert method.calls > 3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Wordless(), "Wordless.paper is ' '"),
        (Lax(), "an unknown option was accepted"),
        (Demanding(), "does not build from defaults alone"),
        (Shift("twice"), "attribute names are not unique"),
        (Shift("range"), "empty safe range"),
        (Shift("attribute"), "an unknown attribute was accepted"),
        (Shift("reference"), "a missing reference was accepted"),
        (Shift("beyond"), "layers beyond the generator's was accepted"),
        (Shift("layers"), "layers 1-2 were asked for, but layers .* changed too"),
        (Shift("drift"), "strength 0 moved the codes"),
        (Shift("random"), "the same seed gave other codes"),
        (Shift("idle"), "strength 1 changed nothing"),
        (Shift("in place"), "edit changed the codes that it was given"),
        (Shift("nan"), "the codes are not finite"),
        (Shift("double"), "not float32"),
        (Shift("gradient"), "the codes carry gradients"),
        (Shift("shape"), r"the codes are \[3, "),
        (Shift("lost"), "the provenance was lost"),
        (Shift("fingerprint"), "the generator of the latents changed"),
        (Shift("provenance"), "the provenance of photo0.jpg changed"),
    ],
)
def test_a_broken_method_is_caught(method: Shift, message: str, tiny_weights: Weights) -> None:
    with pytest.raises(AssertionError, match=message):
        check_editing_method(method, tiny_weights)


class Pooled(Inverter[Options]):
    """The mean of the crop as every code; each fault in `faults` breaks one promise."""

    name = "pooled"
    description = "the mean of the crop"

    def __init__(self, *faults: str) -> None:
        self.faults = faults

    def invert(self, crops: torch.Tensor, options: Options, context: InversionContext) -> Latents:
        codes = torch.zeros_like(random_latents(context.weights, len(crops)).codes)
        codes += crops.mean((1, 2, 3))[:, None, None]
        if "batch" in self.faults:
            codes = codes - codes.mean()
        if "in place" in self.faults:
            crops.zero_()
        if "infinite" in self.faults:
            codes = codes / 0
        if "w" in self.faults:
            return Latents(codes[:, 0], context.weights.fingerprint, LatentSpace.W)
        return Latents(codes, "another" if "fingerprint" in self.faults else context.weights.fingerprint)


def test_a_sound_inverter_passes(tiny_weights: Weights) -> None:
    check_inverter(Pooled(), tiny_weights)


@pytest.mark.parametrize(
    ("inverter", "message"),
    [
        (Pooled("batch"), "crop 0 alone gives other codes"),
        (Pooled("in place"), "invert changed the crops"),
        (Pooled("infinite"), "the codes are not finite"),
        (Pooled("w"), "the space is w, not w_plus"),
        (Pooled("fingerprint"), "do not carry the weights' space"),
    ],
)
def test_a_broken_inverter_is_caught(inverter: Pooled, message: str, tiny_weights: Weights) -> None:
    with pytest.raises(AssertionError, match=message):
        check_inverter(inverter, tiny_weights)


class Bright(Domain):
    """The white box of a photo, by its corners; each fault in `faults` breaks one promise."""

    name = "bright"
    description = "white boxes"
    noun = "box"
    default_weights = "boxes"
    template = AlignmentTemplate("points", 32, ((8.0, 8.0), (24.0, 24.0)))
    resolution = 32

    def __init__(self, *faults: str) -> None:
        self.faults = faults

    def locate(self, photo: Image.Image) -> list[Subject]:
        box = photo.convert("L").point([0] * 200 + [255] * 56).getbbox()
        if box is None or "blind" in self.faults:
            return [] if "ghost" not in self.faults else [Subject((0, 0, 1, 1), np.zeros((2, 2)), 0.0)]
        left, top, right, bottom = (float(side) for side in box)
        subject = Subject((left, top, right, bottom), np.array([[left, top], [right, bottom]]), 1.0)
        small = dataclasses.replace(subject, box=(left, top, left + 1.0, top + 1.0))
        return [small, subject] if "order" in self.faults else [subject, small]

    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        matrix = points_transform(subject.landmarks, template, resolution)
        if "mirror" in self.faults:
            matrix[0] *= -1
        if "nan" in self.faults:
            matrix *= np.nan
        if "square" in self.faults:
            matrix = np.vstack([matrix, [0, 0, 1]])
        if "fixed" in self.faults:
            matrix[:] = np.eye(2, 3)
        return matrix


class Cropless(Bright):
    output_crop = (0.0, 0.5, 1.0, 0.5)


def boxed_photo() -> Image.Image:
    photo = Image.new("RGB", (200, 100))
    photo.paste((255, 255, 255), (40, 30, 90, 70))
    return photo


def test_a_sound_domain_passes() -> None:
    check_domain(Bright(), boxed_photo())
    check_domain(Bright())


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (Cropless(), "is not within 0 to 1"),
        (Bright("ghost"), "1 subjects were found in a blank photo"),
        (Bright("blind"), "no box was found in the photo"),
        (Bright("order"), "do not come largest first"),
        (Bright("mirror"), "no similarity"),
        (Bright("nan"), "not finite"),
        (Bright("square"), r"the shape \[3, 3\]"),
        (Bright("fixed"), "a subject of twice the size is framed differently"),
    ],
)
def test_a_broken_domain_is_caught(domain: Bright, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_domain(domain, boxed_photo())


class Distance(Metric[Options]):
    """Mean squared difference; each fault in `faults` breaks one promise."""

    name = "distance"
    description = "mean squared difference"
    higher_is_better = False

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.calls = 0

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        self.calls += 1
        value: Any = (images - references).square().mean().item()
        if "offset" in self.faults:
            value += 0.5
        if "down" in self.faults:
            value = -value
        if "random" in self.faults:
            value *= self.calls
        if "tensor" in self.faults:
            value = torch.tensor(value)
        if "nan" in self.faults:
            value = float("nan")
        if "in place" in self.faults:
            images.zero_()
        return {"other" if "key" in self.faults else self.name: value}


class Likeness(Distance):
    higher_is_better = True


def test_a_sound_metric_passes() -> None:
    check_metric(Distance())
    check_metric(Likeness("down"))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Likeness(), "identical images give 0.0, not more than"),
        (Distance("down"), "identical images give -?0.0, not less than"),
        (Distance("offset"), "identical images give 0.5, not 0"),
        (Distance("random"), "gave other numbers the second time"),
        (Distance("tensor"), "'distance' is of type Tensor, not float"),
        (Distance("nan"), "'distance' is nan"),
        (Distance("in place"), "compute changed its images"),
        (Distance("key"), "no key 'distance' among"),
    ],
)
def test_a_broken_metric_is_caught(metric: Distance, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_metric(metric)
