"""Contract checks for plugin authors: call one on each thing that your plugin registers.

    from stkit.testing import check_metric

    def test_my_metric():
        check_metric(MyMetric())

Each check raises AssertionError with one line on the promise that is broken. Options need defaults,
since the checks run with them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from stkit.contracts.editing import EditContext
from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.inversion import InversionContext
from stkit.contracts.shapes import shape_values
from stkit.errors import StkitError, UsageError
from stkit.latents.latents import Latents, Provenance
from stkit.options import LatentSpace, LayerRange, Options, build_options
from stkit.photo.boxes import BoxDomain
from stkit.tensors import save_tensors
from stkit.weights import Header, find_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stkit.contracts.domains import Domain, Subject
    from stkit.contracts.editing import EditingMethod
    from stkit.contracts.inversion import Inverter
    from stkit.contracts.metrics import Metric
    from stkit.contracts.scoring import Scorer
    from stkit.weights import Weights

_CPU = torch.device("cpu")


_FACES = AlignmentTemplate("points", 128, ((37.7, 36.8), (89.3, 36.8), (40.0, 88.7), (87.0, 88.7)))


def make_tiny_weights(
    folder: Path, domain: str = "faces", seed: int = 0, alignment: AlignmentTemplate = _FACES
) -> Weights:
    """Write a 16 px generator and inverters for it, randomly initialised, to `folder`, and open them.

    The Style Transformer is the weights' own; pSp, e4e and ReStyle encoders lie beside it.
    """
    from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig
    from stkit.models.shapes import StyleGAN2Config
    from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
    from stkit.models.stylegan2 import StyleGAN2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = StyleGAN2(StyleGAN2Config(16, 32, 32, mapping_layers=2, channel_base=256, channel_max=32))
        generator.w_avg.copy_(generator.compute_w_avg(100))
        inverter = StyleTransformer(
            StyleTransformerConfig(
                input_resolution=16,
                num_ws=generator.config.num_ws,
                num_queries=generator.config.num_ws,
                d_model=32,
                heads=2,
                feedforward=32,
                mapping_layers=2,
                depths=(1, 1, 1, 1),
                widths=(16, 16, 32, 32),
            )
        )
        inverter.latent_avg.copy_(generator.w_avg)
        rivals = [PSPEncoder(PSPEncoderConfig.small(name, generator.config)) for name in ("psp", "e4e", "restyle")]
    header = Header(
        kind="generator",
        architecture="stylegan2",
        config=dataclasses.asdict(generator.config),
        domain=domain,
        alignment=alignment,
        licence="CC0-1.0 (random numbers)",
        shape=shape_values(generator.config),
    )
    written = save_tensors(folder / "generator.safetensors", generator.state_dict(), header)
    header = dataclasses.replace(
        header,
        kind="inverter",
        shape={},
        architecture="style-transformer",
        config=dataclasses.asdict(inverter.config),
        generator=written.fingerprint,
    )
    save_tensors(folder / "inverter.safetensors", inverter.state_dict(), header)
    for rival in rivals:
        name = rival.config.architecture
        rival.latent_avg.copy_(generator.w_avg)
        header = dataclasses.replace(header, architecture=name, config=dataclasses.asdict(rival.config))
        save_tensors(folder / f"inverter-{name}.safetensors", rival.state_dict(), header)
    return find_weights(folder)


def run_stkit(*words: object) -> str:
    """What `stkit WORDS` prints, run in this process. Raises what the command does, AssertionError for an exit code."""
    from typer.testing import CliRunner

    from stkit.cli import build_app

    result = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, f"it ends with {result.exit_code}: {result.output}"
    return result.output


def random_latents(weights: Weights, count: int, seed: int = 0, space: LatentSpace = LatentSpace.W_PLUS) -> Latents:
    """`count` rows of N(0, 1) codes for the generator of `weights`, each with a provenance of its own."""
    shape = {LatentSpace.W: (count, weights.w_dim), LatentSpace.W_PLUS: (count, weights.num_ws, weights.w_dim)}[space]
    codes = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    rows = tuple(
        Provenance(f"photo{row}.jpg", f"{row:064x}", ((1.0, 0.0, float(row)), (0.0, 1.0, 0.0)), edits=("earlier",))
        for row in range(count)
    )
    return Latents(codes, weights.space, space, rows)


def check_editing_method(method: EditingMethod, weights: Weights) -> None:
    """Check an editing method on random codes of `weights`, with its first attribute and default options.

    Strength 0 gives the codes back, strength 1 moves them; shape, space, generator and provenance are
    kept; the input stays as it was; the same seed gives the same codes; layers are respected in w_plus;
    unknown attributes, layers beyond the generator, unknown options and missing references are refused.
    """
    _check_words(method, "name", "description", "paper")
    options = _default_options(method.Options)
    references = random_latents(weights, 1, seed=1, space=method.space) if method.needs_reference else None
    context = EditContext(weights, _CPU, references=references)
    attributes = method.attributes(context)
    names = [attribute.name for attribute in attributes]
    assert len(set(names)) == len(names), f"attribute names are not unique: {names}"
    for attribute in attributes:
        _check_words(attribute, "name", "description")
        low, high = attribute.safe_range
        assert low < high, f"attribute '{attribute.name}' has the empty safe range {low} to {high}"
    if attributes:
        context = dataclasses.replace(context, attribute=names[0])

    latents = random_latents(weights, 3, space=method.space)
    before = latents.codes.clone()
    edited = method.edit(latents, options, context)
    assert torch.equal(latents.codes, before), "edit changed the codes that it was given; work on a copy"
    _check_edited(edited, latents)
    assert not torch.equal(edited.codes, before) or _style_drift(edited) > 0, "strength 1 changed nothing"
    again = method.edit(latents, options, context)
    assert torch.allclose(again.codes, edited.codes, atol=1e-6), "the same seed gave other codes the second time"

    still = method.edit(latents, options, dataclasses.replace(context, strength=0.0))
    _check_edited(still, latents)
    drift = max((still.codes - before).abs().max().item(), _style_drift(still))
    assert drift <= 1e-5, f"strength 0 moved the codes by {drift:.1e}; it must give them back"

    if method.space == LatentSpace.W_PLUS:
        within = dataclasses.replace(context, layers=LayerRange(1, 2))
        moved = (method.edit(latents, options, within).codes - before).abs().amax((0, 2))
        outside = [layer for layer, by in enumerate(moved.tolist()) if by > 1e-6 and layer not in (1, 2)]
        assert not outside, f"layers 1-2 were asked for, but layers {outside} changed too"
        beyond = dataclasses.replace(context, layers=LayerRange(0, weights.num_ws))
        _check_refused(lambda: method.edit(latents, options, beyond), UsageError, "layers beyond the generator's")
    if attributes:
        unknown = dataclasses.replace(context, attribute="no-such-attribute")
        _check_refused(lambda: method.edit(latents, options, unknown), UsageError, "an unknown attribute")
    if method.needs_reference:
        alone = dataclasses.replace(context, references=None)
        _check_refused(lambda: method.edit(latents, options, alone), UsageError, "a missing reference")


def check_scorer(scorer: Scorer) -> None:
    """Check a scorer on random images with its default options.

    It gives float64 numbers (NaN where an image has none), one an image and attribute; an image has the same score
    alone as in a batch; the images stay as they were; unknown options are refused.
    """
    _check_words(scorer, "name", "description")
    options = _default_options(scorer.Options)
    images = _random_images(3, 64)
    before = images.clone()
    scores = scorer.score(images, options)
    assert torch.equal(images, before), "score changed its images"
    assert scores, "there is no attribute"
    alone = scorer.score(images[1:2], options)
    assert set(alone) == set(scores), f"one image has the attributes {sorted(alone)}, three {sorted(scores)}"
    for name, values in scores.items():
        assert values.shape == (3,), f"'{name}' is {values.shape} for 3 images"
        assert values.dtype == np.float64, f"'{name}' is {values.dtype}, not float64"
        assert np.allclose(alone[name], values[1:2], atol=1e-4, equal_nan=True), f"'{name}' differs in a batch"


def check_inverter(inverter: Inverter, weights: Weights, **chosen: object) -> None:
    """Check an inverter on random crops at the resolution of `weights`, with default options but those `chosen`.

    It gives finite float32 w_plus codes [B, num_ws, w_dim] with the weights' `space`; a batch of
    two equals two batches of one; the crops stay as they were; unknown options are refused. One that
    `refines` takes `steps` and goes on from given codes.
    """
    _check_words(inverter, "name", "description")
    _default_options(inverter.Options)
    options = build_options(inverter.Options, chosen)
    context = InversionContext(weights, _CPU)
    crops = _random_images(2, weights.resolution)
    before = crops.clone()
    latents = inverter.invert(crops, options, context)
    assert torch.equal(crops, before), "invert changed the crops that it was given; work on a copy"
    expected = random_latents(weights, 2)
    assert latents.space == LatentSpace.W_PLUS, f"the space is {latents.space}, not w_plus"
    _check_codes(latents.codes, expected.codes)
    assert latents.generator == expected.generator, "the latents do not carry the weights' space"
    for row in range(2):
        alone = inverter.invert(crops[row : row + 1], options, context).codes
        difference = (alone - latents.codes[row : row + 1]).abs().max().item()
        assert difference <= 1e-4, f"crop {row} alone gives other codes than in a batch of 2 (by {difference:.1e})"
    if inverter.refines:
        build_options(inverter.Options, {"steps": 1})
        start = random_latents(weights, 2)
        refined = inverter.invert(crops, options, dataclasses.replace(context, start=start))
        _check_codes(refined.codes, start.codes)
        assert not torch.equal(refined.codes, latents.codes), "refines is set, but the start makes no difference"


def check_domain(domain: Domain, photo: Image.Image | None = None) -> None:
    """Check a domain on a blank photo, where it finds nothing, and on `photo`, which shows at least one subject.

    A BoxDomain looks at nothing, so that a blank photo serves as well. In `photo` the subjects come
    largest first, doubtful ones last, and `transform` gives a finite similarity without a mirror image
    that scales with the subject.
    """
    _check_words(domain, "name", "description", "noun", "default_weights")
    preferred = domain.preferred_weights
    assert isinstance(preferred, tuple), f"preferred_weights is {preferred!r}, not a tuple of names"
    assert domain.resolution > 0, f"the resolution is {domain.resolution}"
    left, top, right, bottom = domain.output_crop
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1, f"output_crop {domain.output_crop} is not within 0 to 1"
    blank = Image.new("RGB", (320, 240), (128, 128, 128))
    found = domain.locate(blank)
    if isinstance(domain, BoxDomain):
        photo = photo or blank
    else:
        assert found == [], f"{len(found)} subjects were found in a blank photo"
    if photo is None:
        return
    subjects = domain.locate(photo)
    assert subjects, f"no {domain.noun} was found in the photo"
    places = [(subject.doubtful, -subject.area) for subject in subjects]
    assert places == sorted(places), f"the subjects do not come largest first, doubtful ones last: {subjects}"
    for subject in subjects:
        _check_transform(domain, subject)


def check_metric(metric: Metric) -> None:
    """Check a metric on random images with its default options.

    It gives finite numbers, one of them under its own name; identical images get the best value, which is
    0 unless higher is better; where it is `paired`, they are the means over single pairs; the images stay as they were;
    unknown options are refused.
    """
    _check_words(metric, "name", "description")
    options = _default_options(metric.Options)
    images, others = _random_images(4, 64), 0.5 - 0.3 * _random_images(4, 64, seed=1)  # of another distribution
    before = images.clone(), others.clone()
    values = metric.compute(images, others, options)
    assert torch.equal(images, before[0]) and torch.equal(others, before[1]), "compute changed its images"
    same = metric.compute(images, images.clone(), options)
    for numbers in (values, same):
        assert metric.name in numbers, f"no key '{metric.name}' among {sorted(numbers)}"
        for key, number in numbers.items():
            assert isinstance(number, float), f"'{key}' is of type {type(number).__name__}, not float"
            assert math.isfinite(number), f"'{key}' is {number}"
    assert metric.compute(images, others, options) == values, "the same images gave other numbers the second time"
    if metric.paired:
        rows = zip(images.split(1), others.split(1), strict=True)
        alone = [metric.compute(a, b, options)[metric.name] for a, b in rows]
        mean = sum(alone) / len(alone)
        assert math.isclose(mean, values[metric.name], rel_tol=1e-3, abs_tol=1e-5), (
            f"paired is set, but the mean over single pairs is {mean}, not {values[metric.name]}"
        )
    best, worse = same[metric.name], values[metric.name]
    if metric.higher_is_better:
        assert best > worse, f"identical images give {best}, not more than the {worse} of different ones"
    else:
        assert best < worse, f"identical images give {best}, not less than the {worse} of different ones"
        assert abs(best) <= 1e-3 * max(1.0, worse), f"identical images give {best}, not 0"


def _check_words(thing: object, *fields: str) -> None:
    for name in fields:
        value = getattr(thing, name, None)
        assert isinstance(value, str) and value.strip(), f"{type(thing).__name__}.{name} is {value!r}; say it in words"


def _check_refused(call: Callable[[], object], kind: type[StkitError], what: str) -> None:
    try:
        call()
    except kind:
        return
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}, not {kind.__name__}") from error
    raise AssertionError(f"{what} was accepted; raise {kind.__name__}")


def _default_options(cls: type[Options]) -> Options:
    _check_refused(lambda: build_options(cls, {"no-such-option": 1}), UsageError, "an unknown option")
    try:
        return build_options(cls, {})
    except UsageError as error:
        raise AssertionError(f"{cls.__qualname__} does not build from defaults alone: {error}") from error


def _check_codes(codes: torch.Tensor, expected: torch.Tensor) -> None:
    assert codes.shape == expected.shape, f"the codes are {list(codes.shape)}, not {list(expected.shape)}"
    assert codes.dtype == torch.float32, f"the codes are {codes.dtype}, not float32"
    assert not codes.requires_grad, "the codes carry gradients; detach them"
    assert torch.isfinite(codes).all(), "the codes are not finite"


def _check_edited(edited: Latents, latents: Latents) -> None:
    _check_codes(edited.codes, latents.codes)
    assert edited.space == latents.space, f"the space became {edited.space}"
    assert edited.generator == latents.generator, "the generator of the latents changed"
    assert len(edited.provenance) == len(latents.provenance), "the provenance was lost; use latents.replace"
    for new, old in zip(edited.provenance, latents.provenance, strict=True):
        assert new.edits[: len(old.edits)] == old.edits, f"earlier edits {old.edits} became {new.edits}"
        assert dataclasses.replace(new, edits=old.edits) == old, f"the provenance of {old.photo} changed"


def _style_drift(latents: Latents) -> float:
    return 0.0 if latents.style_offsets is None else latents.style_offsets.abs().max().item()


def _check_transform(domain: Domain, subject: Subject) -> None:
    matrix = domain.transform(subject, domain.template, domain.resolution)
    assert matrix.shape == (2, 3), f"transform gives the shape {list(matrix.shape)}, not [2, 3]"
    assert np.isfinite(matrix).all(), "transform gives numbers that are not finite"
    (a, b), (c, d) = matrix[:, :2]
    assert math.isclose(a, d, abs_tol=1e-6) and math.isclose(b, -c, abs_tol=1e-6), (
        "transform is no similarity (rotation, uniform scale, shift)"
    )
    assert a * d - b * c > 0, "transform has no size"
    left, top, right, bottom = (2 * side for side in subject.box)
    double = dataclasses.replace(subject, box=(left, top, right, bottom), landmarks=2 * subject.landmarks)
    scaled = domain.transform(double, domain.template, domain.resolution)
    same_scale = np.allclose(scaled[:, :2], 2 * matrix[:, :2], rtol=1e-3, atol=1e-6)
    same_place = np.allclose(scaled[:, 2], 2 * matrix[:, 2], atol=1.0)
    assert same_scale and same_place, "a subject of twice the size is framed differently"


def _random_images(count: int, resolution: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images [count, 3, resolution, resolution] in [-1, 1]."""
    noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    size = (resolution, resolution)
    return torch.nn.functional.interpolate(noise, size, mode="bilinear", align_corners=True).clamp(-1, 1)


__all__ = [
    "check_domain",
    "check_editing_method",
    "check_inverter",
    "check_metric",
    "check_scorer",
    "make_tiny_weights",
    "random_latents",
    "run_stkit",
]
