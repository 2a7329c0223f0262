"""The example keeps stkit's contracts, and does what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkit.plugin import EditContext, build_options, load_generator, load_plugins
from stkit.testing import check_domain, check_editing_method, check_metric, make_tiny_weights, random_latents
from stkit_example.domain import Objects
from stkit_example.method import Blend
from stkit_example.metric import DeltaE


def test_it_is_installed_and_nothing_is_refused() -> None:
    (plugin,) = [plugin for plugin in load_plugins().plugins if plugin.name == "example"]
    assert plugin.problems == ()
    assert plugin.registered == {"editing method": ("blend",), "domain": ("objects",), "metric": ("delta-e",)}


def test_blend(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path)
    check_editing_method(Blend(), weights)
    latents = random_latents(weights, 2)
    mean = EditContext(weights, torch.device("cpu"), "mean", 1.0)
    options = build_options(Blend.Options, {})
    edited = Blend().edit(latents, options, mean)
    assert torch.allclose(edited.codes, load_generator(weights).w_avg.expand_as(edited.codes), atol=1e-6)
    random = dataclasses.replace(mean, attribute="random")
    seeds = [Blend().edit(latents, options, dataclasses.replace(random, seed=seed)).codes for seed in (7, 7, 8)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])


def test_objects() -> None:
    photo = Image.new("RGB", (200, 100), (250, 250, 250))
    photo.paste((200, 30, 40), (40, 30, 90, 70))
    check_domain(Objects(), photo)
    (subject,) = Objects().locate(photo)
    assert subject.box == (39.5, 29.5, 89.5, 69.5)


def test_delta_e() -> None:
    check_metric(DeltaE())
    black, white = torch.full((1, 3, 4, 4), -1.0), torch.ones(1, 3, 4, 4)
    options = build_options(DeltaE.Options, {})
    assert DeltaE().compute(black, white, options)["delta-e"] == pytest.approx(100, abs=0.05)  # all of L*
