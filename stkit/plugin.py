"""All that plugins may import, of whatever room it is: `from stkit.plugin import EditingMethod, Options`.

Names are imported when first used, so that a plugin which imports contracts at its top, and what computes in its
functions, costs `stkit --help` no torch. What is not named here may change with any version.
"""

# ruff: noqa: F401  # the imports for type checking are what `_HOMES` says

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkit.checkpoints.directions import read_directions, write_direction
    from stkit.checkpoints.encoders import Framework, read_framework
    from stkit.checkpoints.layout import Entry, Part, Recognised, State, state_shapes
    from stkit.checkpoints.layout import Shape as TensorShape
    from stkit.checkpoints.layout import take as take_tensors
    from stkit.checkpoints.mobile_stylegan import recognise as recognise_mobile_stylegan
    from stkit.checkpoints.reading import Checkpoint
    from stkit.checkpoints.stored import StoredTensor, as_tensor
    from stkit.cli.common import (
        FIT,
        LABELLED,
        AlignedFlag,
        DeviceFlag,
        DomainFlag,
        InverterFlag,
        LimitFlag,
        ReplaceFlag,
        WeightsFlag,
        console,
        open_editor,
        open_weights,
        print_facts,
        print_table,
        progress_bar,
    )
    from stkit.cli.flags import takes
    from stkit.contracts.checkpoints import CheckpointFamily
    from stkit.contracts.domains import Domain, Subject
    from stkit.contracts.editing import Attribute, EditContext, EditingMethod, find_attribute
    from stkit.contracts.engines import Engine, Spread
    from stkit.contracts.framing import AlignmentTemplate
    from stkit.contracts.generators import Architecture
    from stkit.contracts.inversion import InversionContext, Inverter, ignore_latents, ignore_progress
    from stkit.contracts.metrics import Metric
    from stkit.contracts.scoring import Scorer
    from stkit.contracts.shapes import Shape as GeneratorShape
    from stkit.contracts.shapes import shape_values
    from stkit.contracts.training import SILENT, Trainer, Voice, argument, flag, setting
    from stkit.datasets.codes import LabelledCodes
    from stkit.datasets.images import batch_indices, frame_largest
    from stkit.datasets.labels import AttributeSpec, Labels, load_labels
    from stkit.devices import fast_dtype, keep_freed_memory, resolve_device
    from stkit.editor.editor import Editor
    from stkit.editor.refinement import QUALITIES, edit_quality, refinements_of
    from stkit.editor.results import Framed
    from stkit.editor.steps import chain_label
    from stkit.errors import (
        LabelsError,
        LatentsError,
        MissingPackageError,
        OutputError,
        PhotoError,
        StkitError,
        SubjectError,
        UnknownNameError,
        UsageError,
        WeightsError,
    )
    from stkit.files import parse_json, safe_name
    from stkit.headers import is_foreign
    from stkit.hookspecs import hookimpl
    from stkit.jobs.labelled import labelled_photos, labelled_rows, labelled_samples, require_classes, two_classes
    from stkit.jobs.outputs import LATENTS_SUFFIX
    from stkit.jobs.previews import encode_gif
    from stkit.jobs.report import Row
    from stkit.jobs.request import LabelledRequest
    from stkit.jobs.runner import PreparedJob, prepare_batch, run_batch
    from stkit.jobs.sources import Item
    from stkit.latents.directions import KIND as DIRECTION_KIND
    from stkit.latents.directions import (
        Direction,
        calibrate,
        coordinates,
        file_of,
        find_direction,
        load_direction,
        middle_range,
        own_folder,
        require_shape,
        row_signs,
        save_direction,
        usable_directions,
    )
    from stkit.latents.directions import check_name as check_direction_name
    from stkit.latents.directions import find_files as find_direction_files
    from stkit.latents.latents import Latents, encode_latents, interpolate, join_latents, mix
    from stkit.latents.tuning import Tuning, require_base, tuned_generator, tuning_between
    from stkit.measure.distributions import frechet_distance, kernel_distance, lite0_features, sliced_wasserstein
    from stkit.measure.efficientnet import load_lite0
    from stkit.measure.lpips import LPIPS, load_lpips
    from stkit.measure.paired import paired_errors
    from stkit.models.generators import Generator, NoiseMode, Renderer, StyleLayer, layers_by_row
    from stkit.models.inference import freeze_style_transformer
    from stkit.models.mapping import MappingNetwork
    from stkit.models.mobile_stylegan import MobileStyleGAN
    from stkit.models.precision import autocast, channels_last
    from stkit.models.psp_encoders import encode_iteratively, load_psp_encoder
    from stkit.models.registry import encode_crops, load_generator, sample_codes, sample_w
    from stkit.models.shapes import MobileStyleGANConfig, StyleGAN2Config
    from stkit.models.style_transformer import load_style_transformer
    from stkit.models.stylegan2 import StyleGAN2
    from stkit.models.trained import load_trained
    from stkit.options import LatentSpace, LayerRange, Options, build_options
    from stkit.photo.alignment import ffhq_transform, frame_photo, points_transform, quad_transform
    from stkit.photo.boxes import BoxDomain
    from stkit.photo.images import image_grid, picture_part, resize_batch, to_image, to_tensor
    from stkit.photo.paste import Place, paste_back
    from stkit.photo.reading import decode_photo
    from stkit.photo.subjects import draw_subjects
    from stkit.plugins import load_plugins
    from stkit.tensors import load_tensors, require_tensors, save_tensors, tensors_fingerprint
    from stkit.training.config import (
        CodesRecipe,
        DomainRecipe,
        GeneratorRecipe,
        InverterRecipe,
        MappingRecipe,
        ReconstructionRecipe,
        RivalsRecipe,
        RunConfig,
    )
    from stkit.training.export import save_module
    from stkit.training.loop import (
        Ema,
        LoopConfig,
        Stateful,
        Unchanged,
        cosine_warmup,
        run_loop,
        run_settings,
        step_generator,
    )
    from stkit.training.mapping import fit_mapping
    from stkit.training.photo_codes import attribute_columns, inverted_photos, train_on_codes
    from stkit.training.pipeline import train_domain
    from stkit.training.recipes import train_generator, train_inverter, train_mapping, train_reconstruction
    from stkit.training.rivals import train_rivals
    from stkit.training.runs import (
        copy_beside,
        image_sets,
        loop_of,
        origin,
        require_one_process,
        require_room,
        run_notes,
    )
    from stkit.weights import (
        Header,
        Weights,
        cache_folder,
        find_weights,
        load_header,
        note_number,
        require_names,
        weights_names,
    )

_HOMES = {
    "hookspecs": "hookimpl",
    "contracts.checkpoints": "CheckpointFamily",
    "contracts.domains": "Domain Subject",
    "contracts.editing": "Attribute EditContext EditingMethod find_attribute",
    "contracts.framing": "AlignmentTemplate",
    "contracts.generators": "Architecture",
    "contracts.shapes": "GeneratorShape=Shape shape_values",
    "contracts.inversion": "InversionContext Inverter ignore_latents ignore_progress",
    "contracts.metrics": "Metric",
    "contracts.scoring": "Scorer",
    "contracts.training": "SILENT Trainer Voice argument flag setting",
    "options": "LatentSpace LayerRange Options build_options",
    "errors": (
        "LabelsError LatentsError MissingPackageError OutputError PhotoError StkitError SubjectError "
        "UnknownNameError UsageError WeightsError"
    ),
    "devices": "fast_dtype keep_freed_memory resolve_device",
    "files": "parse_json safe_name",
    "plugins": "load_plugins",
    "tensors": "load_tensors require_tensors save_tensors tensors_fingerprint",
    "headers": "is_foreign",
    "weights": ("Header Weights cache_folder find_weights load_header note_number require_names weights_names"),
    "photo.alignment": "ffhq_transform frame_photo points_transform quad_transform",
    "photo.boxes": "BoxDomain",
    "photo.images": "image_grid picture_part resize_batch to_image to_tensor",
    "photo.reading": "decode_photo",
    "photo.paste": "Place paste_back",
    "photo.subjects": "draw_subjects",
    "latents.directions": (
        "DIRECTION_KIND=KIND Direction calibrate check_direction_name=check_name coordinates file_of "
        "find_direction find_direction_files=find_files load_direction middle_range own_folder require_shape "
        "row_signs save_direction usable_directions"
    ),
    "latents.latents": "Latents encode_latents interpolate join_latents mix",
    "latents.tuning": "Tuning require_base tuned_generator tuning_between",
    "datasets.codes": "LabelledCodes",
    "datasets.images": "batch_indices frame_largest",
    "datasets.labels": "AttributeSpec Labels load_labels",
    "measure.distributions": "frechet_distance kernel_distance lite0_features sliced_wasserstein",
    "measure.efficientnet": "load_lite0",
    "measure.lpips": "LPIPS load_lpips",
    "measure.paired": "paired_errors",
    "models.generators": "Generator NoiseMode Renderer StyleLayer layers_by_row",
    "models.inference": "freeze_style_transformer",
    "models.mapping": "MappingNetwork",
    "models.mobile_stylegan": "MobileStyleGAN",
    "models.precision": "autocast channels_last",
    "models.psp_encoders": "encode_iteratively load_psp_encoder",
    "models.registry": "encode_crops load_generator sample_codes sample_w",
    "models.shapes": "MobileStyleGANConfig StyleGAN2Config",
    "models.style_transformer": "load_style_transformer",
    "models.stylegan2": "StyleGAN2",
    "models.trained": "load_trained",
    "editor.editor": "Editor",
    "editor.refinement": "QUALITIES edit_quality refinements_of",
    "editor.results": "Framed",
    "editor.steps": "chain_label",
    "jobs.labelled": "labelled_photos labelled_rows labelled_samples require_classes two_classes",
    "jobs.outputs": "LATENTS_SUFFIX",
    "jobs.previews": "encode_gif",
    "checkpoints.directions": "read_directions write_direction",
    "checkpoints.encoders": "Framework read_framework",
    "checkpoints.layout": "Entry Part Recognised State TensorShape=Shape state_shapes take_tensors=take",
    "checkpoints.mobile_stylegan": "recognise_mobile_stylegan=recognise",
    "checkpoints.reading": "Checkpoint",
    "checkpoints.stored": "StoredTensor as_tensor",
    "training.config": (
        "CodesRecipe DomainRecipe GeneratorRecipe InverterRecipe MappingRecipe ReconstructionRecipe RivalsRecipe "
        "RunConfig"
    ),
    "training.export": "save_module",
    "training.loop": "Ema LoopConfig Stateful Unchanged cosine_warmup run_loop run_settings step_generator",
    "training.photo_codes": "attribute_columns inverted_photos train_on_codes",
    "training.pipeline": "train_domain",
    "training.recipes": "train_generator train_inverter train_mapping train_reconstruction",
    "training.rivals": "train_rivals",
    "training.runs": "copy_beside image_sets loop_of origin require_one_process require_room run_notes",
    "cli.common": (
        "AlignedFlag DeviceFlag DomainFlag FIT InverterFlag LABELLED LimitFlag ReplaceFlag WeightsFlag console "
        "open_editor open_weights print_facts print_table progress_bar"
    ),
    "cli.flags": "takes",
    "training.mapping": "fit_mapping",
    "jobs.report": "Row",
    "jobs.request": "LabelledRequest",
    "jobs.runner": "PreparedJob prepare_batch run_batch",
    "jobs.sources": "Item",
    "contracts.engines": "Engine Spread",
}
"""Module: the names that come from it; NAME=THEIRS is called otherwise here."""

_HOME = {
    word.partition("=")[0]: (module, word.rpartition("=")[2])
    for module, words in _HOMES.items()
    for word in words.split()
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stkit.plugin' has no attribute '{name}'; plugins may import what __all__ lists")
    module, theirs = _HOME[name]
    return getattr(importlib.import_module(f"stkit.{module}"), theirs)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__all__ = sorted(_HOME)
