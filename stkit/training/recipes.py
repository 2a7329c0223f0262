"""Trainings from a folder of images to weights: what `stkit train reconstruction`, `mapping` and `generator` do."""

from __future__ import annotations

from dataclasses import replace

import torch

from stkit.contracts.shapes import Shape
from stkit.contracts.training import SILENT, Voice
from stkit.datasets.images import require_enough
from stkit.devices import resolve_device
from stkit.errors import MissingPackageError, UsageError
from stkit.models.discriminator import DiscriminatorConfig
from stkit.models.projected import ProjectedConfig
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig, load_psp_encoder
from stkit.models.registry import load_generator, sample_codes
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig, load_style_transformer
from stkit.models.stylegan2 import require_stylegan2
from stkit.plugins import load_plugins
from stkit.training.augment import DIFF_AUGMENT, AugmentConfig
from stkit.training.config import (
    GeneratorRecipe,
    InverterRecipe,
    MappingRecipe,
    ReconstructionRecipe,
    RunConfig,
)
from stkit.training.generator import AdversarialConfig, GeneratorRun, export_generator
from stkit.training.inverter import InverterConfig, InverterRun, comparison_resolution, export_inverter, load_identity
from stkit.training.linear_codes import fit_linear_codes
from stkit.training.mapping import fit_mapping, mean_codes
from stkit.training.mapping_gan import MappingConfig, MappingRun, with_mapping
from stkit.training.reconstruction import Autoencoder, ReconstructionConfig, ReconstructionRun, export_reconstruction
from stkit.training.runs import (
    carry_over,
    copy_beside,
    feature_dtype,
    image_sets,
    is_first_process,
    lasting_notes,
    loop_of,
    origin,
    require_one_process,
    require_room,
    run_notes,
    shape_of,
    training_device,
)
from stkit.weights import Weights, find_weights, load_header


def train_reconstruction(recipe: ReconstructionRecipe, voice: Voice = SILENT) -> bool:
    """Train a generator and its inverter together by reconstruction; whether weights are in `recipe.out`.

    False when it was interrupted, and in all processes but the first. Raises UsageError, WeightsError, StkitError.
    """
    first = find_weights(recipe.init) if recipe.init is not None else None
    source, device = origin(recipe.domain, recipe.licence, first), training_device(recipe.device)
    start = None
    if first is not None:
        trained = require_stylegan2(load_generator(first), "this training")
        encoder = load_style_transformer(first)
        generator, inverter = shape_of(recipe, trained.config), encoder.config
        start = torch.nn.ModuleDict({"generator": trained, "inverter": encoder}).state_dict()
    else:
        generator = shape_of(recipe)
        inverter = StyleTransformerConfig.small(generator)
    if recipe.input_resolution is not None:
        inverter = replace(inverter, input_resolution=recipe.input_resolution)
    last, grow_from = generator.img_resolution, recipe.grow_from
    if grow_from is not None and (grow_from > last or grow_from & (grow_from - 1)):
        raise UsageError(f"grow_from {grow_from} is no power of two up to the generator's {last} px")
    require_room(recipe.out, "generator")
    loop = loop_of(recipe)
    config = ReconstructionConfig(
        generator,
        inverter,
        learning_rate=recipe.learning_rate,
        generator_rate=recipe.generator_rate or (5.0 if first is None else 1.0),
        lpips=recipe.lpips,
        mean_share=recipe.mean_share,
        grow_from=grow_from,
        zoom=last < 256,
        dtype=feature_dtype(recipe.precision, device),
        compile=recipe.compile,
    )
    train_set, val_set = image_sets(recipe.data, last, source["domain"], voice)
    require_enough(len(train_set), recipe.data)
    with voice.bar("building the networks"):
        run = ReconstructionRun(config, loop, train_set, val_set, device, start)
    if run.train() != loop.steps or not is_first_process():
        return False
    model = run.ema.model
    assert isinstance(model, Autoencoder)
    with voice.bar("fitting the mapping network") as on_progress:
        codes = mean_codes(model.inverter, train_set, device, config.dtype, on_progress)
    figures = fit_mapping(model.generator, codes)
    voice.say("mapping: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    export_reconstruction(model, recipe.out, **source, notes=run_notes(recipe.data, train_set, loop))
    return _told(recipe, voice)


def train_mapping(recipe: MappingRecipe, voice: Voice = SILENT) -> bool:
    """Train a new mapping network for the weights `recipe.init`; whether weights are in `recipe.out`.

    Raises UsageError, WeightsError.
    """
    require_one_process("mapping")
    weights, device = find_weights(recipe.init), resolve_device(recipe.device)
    generator = require_stylegan2(load_generator(weights, device), "this training")
    inverter = load_style_transformer(weights, device)
    config = MappingConfig(generator.config.z_dim, generator.config.w_dim, recipe.mapping_layers)
    require_room(recipe.out, "generator")
    loop = loop_of(recipe)
    train_set, val_set = image_sets(recipe.data, weights.resolution, weights.domain, voice)
    dtype = feature_dtype(recipe.precision, device)
    with voice.bar("inverting photos") as on_progress:
        codes = mean_codes(inverter, train_set, device, dtype, on_progress)
    held_out = mean_codes(inverter, val_set, device, dtype)
    run = MappingRun(config, loop, generator, codes, held_out, train_set.output_crop, device)
    if run.train() != loop.steps:
        return False
    finished = with_mapping(generator, run.averaged.network()).to(device)
    notes = run_notes(recipe.data, train_set, loop)
    header = export_generator(finished, recipe.out, **origin(None, None, weights), notes=notes)
    # What was true of the old network's samples is left out; it is computed anew when asked for.
    stale = [kind for method in load_plugins().editing_methods.values() for kind in method.sampled_kinds]
    carry_over(weights, recipe.out, header.fingerprint, leave_out=stale)
    return _told(recipe, voice)


def train_generator(recipe: GeneratorRecipe, voice: Voice = SILENT) -> bool:
    """Train a generator against a discriminator; whether weights are in `recipe.out`, as in `train_reconstruction`.

    Raises UsageError, WeightsError.
    """
    if recipe.keep is not None and recipe.init is None:
        raise UsageError("keep is for the inverter of the weights to start from; give --init")
    weights = find_weights(recipe.init) if recipe.init is not None else None
    start = kept = None
    if weights is not None:
        first = require_stylegan2(load_generator(weights), "this training")
        shape, start = shape_of(recipe, first.config), first.state_dict()
        kept = load_style_transformer(weights) if recipe.keep is not None else None
    else:
        shape = shape_of(recipe)
    require_room(recipe.out, "generator")
    source, device = origin(recipe.domain, recipe.licence, weights), training_device(recipe.device)
    config = _adversarial(recipe, shape, device)
    loop = loop_of(recipe)
    train_set, val_set = image_sets(recipe.data, shape.img_resolution, source["domain"], voice)
    with voice.bar("building the networks"):
        run = GeneratorRun(config, loop, train_set, device, start, kept, val_set)
    if run.train() != loop.steps or not is_first_process():
        return False
    header = export_generator(run.averaged, recipe.out, **source, notes=run_notes(recipe.data, train_set, loop))
    if weights is not None and kept is not None:
        carry_over(weights, recipe.out, header.fingerprint)
    return _told(recipe, voice)


def train_inverter(recipe: InverterRecipe, voice: Voice = SILENT) -> bool:
    """Train an inverter for a generator that stays as it is; whether weights are in `recipe.out`.

    Raises UsageError, WeightsError, MissingPackageError.
    """
    weights, device = find_weights(recipe.weights), training_device(recipe.device)
    generator = load_generator(weights)
    first, shape = _encoder(recipe, generator.config)
    require_room(recipe.out, "inverter", weights)
    loop, size = loop_of(recipe), comparison_resolution(shape, generator.config)
    config = InverterConfig(
        shape,
        learning_rate=recipe.learning_rate,
        l2=recipe.l2,
        lpips=recipe.lpips,
        identity=recipe.identity,
        latent=recipe.latent,
        augment=recipe.augment,
        zoom=size < 256,
        dtype=feature_dtype(recipe.precision, device),
        compile=recipe.compile,
    )
    train_set, val_set = image_sets(recipe.data, size, weights.domain, voice)
    embedder = None
    if recipe.identity:
        try:
            embedder = load_identity(load_plugins().domain(weights.domain), weights.alignment, device)
        except MissingPackageError as error:
            raise MissingPackageError(f"{error}, or leave out this loss with -o identity=0") from error
    start = first.state_dict() if first else None
    with voice.bar("building the networks"):
        run = InverterRun(config, generator, loop, train_set, val_set, device, embedder, start)
    if start is None and recipe.linear_rank and not loop.checkpoint.exists():
        _fit_linear_codes(run, weights, recipe.linear_samples, voice)
    if run.train() != loop.steps or not is_first_process():
        return False
    averaged = run.ema.model
    assert isinstance(averaged, (StyleTransformer, PSPEncoder))
    notes = run_notes(recipe.data, train_set, loop)
    if recipe.init:
        begun = find_weights(recipe.init)
        header = load_header(begun.path(begun.inverter_kind(recipe.architecture)))
        notes = {**lasting_notes(header), **notes}
    fingerprint = weights.fingerprint
    source = origin(None, None, weights)
    copy_beside(weights, recipe.out, "inverter")
    export_inverter(averaged, recipe.out, generator=fingerprint, **source, notes=notes, int8=recipe.int8)
    return _told(recipe, voice)


def _encoder(
    recipe: InverterRecipe, generator: Shape
) -> tuple[StyleTransformer | PSPEncoder | None, StyleTransformerConfig | PSPEncoderConfig]:
    """The network to start from, if any, and the shape of the one to train."""
    origin = find_weights(recipe.init) if recipe.init else None
    asked = recipe.backbone != "ir-se" or recipe.linear_rank
    if recipe.architecture != "style-transformer" and (asked or recipe.input_resolution):
        raise UsageError(
            "backbone, linear_rank and input_resolution are of a Style Transformer; "
            f"{recipe.architecture} has none of them"
        )
    if origin and asked:
        raise UsageError("backbone and linear_rank are for a new Style Transformer; --init has a shape of its own")
    first: StyleTransformer | PSPEncoder | None = None
    if recipe.architecture == "style-transformer":
        if not origin:
            return None, _style_transformer(recipe, generator)
        first = load_style_transformer(origin)
        size = recipe.input_resolution or first.config.input_resolution
        return first, replace(first.config, input_resolution=size)
    first = load_psp_encoder(origin, recipe.architecture) if origin else None
    return first, first.config if first else PSPEncoderConfig.small(recipe.architecture, generator)


def _style_transformer(recipe: InverterRecipe, generator: Shape) -> StyleTransformerConfig:
    shape = StyleTransformerConfig.small(generator)
    size = recipe.input_resolution or shape.input_resolution
    return replace(shape, backbone=recipe.backbone, linear_rank=recipe.linear_rank, input_resolution=size)


def _fit_linear_codes(run: InverterRun, weights: Weights, samples: int, voice: Voice) -> None:
    """Start a new run from least squares. Raises UsageError."""
    network, averaged = run.model, run.ema.model
    assert isinstance(network, StyleTransformer)
    with voice.bar("fitting the linear map to samples") as on_progress:
        codes = sample_codes(weights, samples, run.loop.seed + 1)
        unexplained = fit_linear_codes(network, run.generator, codes, run.config.dtype, on_progress)
    averaged.load_state_dict(network.state_dict())
    voice.say(f"linear map: it leaves {unexplained:.3f} of the variance of held-out codes unexplained")


def _told(recipe: RunConfig, voice: Voice) -> bool:
    voice.say(f"done; use it with --weights {recipe.out}")
    return True


def _adversarial(recipe: GeneratorRecipe, shape: StyleGAN2Config, device: torch.device) -> AdversarialConfig:
    if recipe.discriminator not in ("stylegan2", "projected"):
        raise UsageError(f"discriminator '{recipe.discriminator}' is not stylegan2 or projected")
    projected = recipe.discriminator == "projected"
    if projected and recipe.r1_gamma is not None:
        raise UsageError("a projected discriminator has no R1 penalty; leave out r1_gamma")
    if projected and recipe.ada:
        raise UsageError("a projected discriminator has its own augmentation; leave out ada, or give ada=false")
    return AdversarialConfig(
        shape,
        ProjectedConfig(shape.img_resolution)
        if projected
        else DiscriminatorConfig(shape.img_resolution, shape.channel_base, shape.channel_max),
        d_warmup=recipe.warmup,
        keep=recipe.keep or 0.0,
        zoom=shape.img_resolution < 256,
        augment=DIFF_AUGMENT if projected else AugmentConfig(),
        augment_p=1.0 if projected else 0.0,
        g_learning_rate=recipe.learning_rate,
        d_learning_rate=recipe.learning_rate,
        r1_gamma=recipe.r1_gamma,
        ada_target=0.6 if recipe.ada is not False and not projected else None,
        dtype=feature_dtype(recipe.precision, device),
        compile=recipe.compile,
    )


__all__ = ["train_generator", "train_inverter", "train_mapping", "train_reconstruction"]
