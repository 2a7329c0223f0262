"""What moved: in this version old paths and names still work, with a DeprecationWarning that names the new one."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "stkit.alignment": ("stkit.photo.alignment",),
    "stkit.archives": ("stkit.photo.archives",),
    "stkit.batch": ("stkit.jobs.runner",),
    "stkit.batch_edit": ("stkit.jobs.edit",),
    "stkit.batch_inversion": ("stkit.jobs.invert",),
    "stkit.chain": ("stkit.editor.steps",),
    "stkit.directions": ("stkit.latents.directions", "stkit.models.registry"),
    "stkit.domains": ("stkit.contracts.domains", "stkit.contracts.framing", "stkit.photo.boxes"),
    "stkit.editing": ("stkit.contracts.editing",),
    "stkit.images": ("stkit.photo.images", "stkit.photo.reading", "stkit.photo.colour", "stkit.measure.paired"),
    "stkit.inversion": ("stkit.contracts.inversion",),
    "stkit.labelled": ("stkit.jobs.labelled",),
    "stkit.labels": ("stkit.datasets.labels",),
    "stkit.metrics": ("stkit.contracts.metrics",),
    "stkit.checkpoints.style_transformer_edit": ("stkit_reference.checkpoint",),
    "stkit.models.efficientnet": ("stkit.measure.efficientnet",),
    "stkit.models.latent_classifier": ("stkit_label.network", "stkit.models.trained"),
    "stkit.models.lpips": ("stkit.measure.lpips",),
    "stkit.models.reference_block": ("stkit_reference.network",),
    "stkit.moving": ("stkit.jobs.animation",),
    "stkit.outputs": ("stkit.jobs.outputs",),
    "stkit.paste": ("stkit.photo.paste",),
    "stkit.pictures": ("stkit.jobs.previews",),
    "stkit.quality": ("stkit.measure.usual",),
    "stkit.refinement": ("stkit.editor.refinement",),
    "stkit.results": ("stkit.editor.results",),
    "stkit.scoring": ("stkit.contracts.scoring",),
    "stkit.sources": ("stkit.jobs.sources", "stkit.photo.suffixes"),
    "stkit.subjects": ("stkit.photo.subjects",),
    "stkit.training.classifier": ("stkit_label.training",),
    "stkit.training.codes": ("stkit.datasets.codes",),
    "stkit.training.data": ("stkit.datasets.images",),
    "stkit.training.distributions": ("stkit.measure.distributions",),
    "stkit.training.evaluate": ("stkit.jobs.evaluation.quick",),
    "stkit.training.losses": ("stkit.training.perceptual", "stkit.measure.paired", "stkit.models.precision"),
    "stkit.training.prepare": ("stkit.datasets.prepare",),
    "stkit.training.reference": ("stkit_reference.training",),
    "stkit.tuning": ("stkit.latents.tuning",),
    "stkit.video": ("stkit.jobs.video",),
    "stkit.writeback": ("stkit.photo.writeback",),
}
"""Old module: the new ones that hold what was in it, the one with most of it first."""

RENAMED: dict[str, str] = {
    "stkit.batch.locked": "stkit.files.locked",
    "stkit.batch.printable": "stkit.files.printable",
    "stkit.checkpoints.exporting.header_json": "stkit.checkpoints.onnx.header_json",
    "stkit.checkpoints.nvidia.module_state": "stkit.checkpoints.wrapping.module_state",
    "stkit.models.inference.FrozenGenerator": "stkit.models.stylegan2_inference.FrozenStyleGAN2",
    "stkit.models.inference.freeze_generator": "stkit.models.stylegan2.StyleGAN2.freeze",
    "stkit.models.stylegan2.Generator": "stkit.models.stylegan2.StyleGAN2",
    "stkit.models.stylegan2.GeneratorConfig": "stkit.models.shapes.StyleGAN2Config",
    "stkit.models.stylegan2.MappingNetwork": "stkit.models.mapping.MappingNetwork",
    "stkit.models.stylegan2.StyledConv": "stkit.models.stylegan2_synthesis.StyledConv",
    "stkit.models.stylegan2.ToRGB": "stkit.models.stylegan2_synthesis.ToRGB",
    "stkit.models.stylegan2.add_style_offsets": "stkit.models.generators.add_style_offsets",
    "stkit.weights.count_numbers": "stkit.tensors.count_numbers",
    "stkit.weights.require_tensors": "stkit.tensors.require_tensors",
    "stkit.weights.save_tensors": "stkit.tensors.save_tensors",
    "stkit.weights.tensors_fingerprint": "stkit.tensors.tensors_fingerprint",
}
"""Old names that stand elsewhere: the old module's `__getattr__` asks `renamed`."""

REPLACED: dict[str, tuple[str, str]] = {
    "stkit.batch_inversion.require_any_photos_face": ("find_place of stkit.jobs.invert", "require_any_photos_face"),
    "stkit.checkpoints.generators.make_config": ("config_of of stkit.checkpoints.generators", "make_config"),
    "stkit.checkpoints.nvidia.module_tensors": ("module_tensors_of of stkit.checkpoints.wrapping", "module_tensors"),
    "stkit.checkpoints.nvidia_tf.network_variables": ("network_tensors, which gives a dictionary", "network_variables"),
    "stkit.images.upright_rgb": ("decode_photo of stkit.photo.reading, which reads the file too", "upright_rgb"),
    "stkit.refinement.QUALITIES": ("refinements_of of stkit.editor.refinement", "QUALITIES"),
    "stkit.training.data.read_rgb": ("decode_photo of stkit.photo.reading", "read_rgb"),
}
"""Old names in whose place something else does it: that, and what `stkit.former` still has under the old name."""


def renamed(module: str, name: str) -> Any:
    """What `name` of `module` is now, with a warning. Raises AttributeError where there never was such a name."""
    old = f"{module}.{name}"
    if old in RENAMED:
        new, found = RENAMED[old], RENAMED[old]
    elif old in REPLACED:
        new, found = REPLACED[old][0], f"stkit.former.{REPLACED[old][1]}"
    else:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{old} is now {new}; the old name goes away with the next version", DeprecationWarning, stacklevel=2)
    return pkgutil.resolve_name(found)


def _elsewhere(module: str, name: str) -> Any:
    """`name` of an old module, where it is no plain name of the new ones."""
    try:
        return renamed(module, name)
    except AttributeError:
        for home in MOVED[module]:
            ask = vars(importlib.import_module(home)).get("__getattr__")
            if ask is not None and not name.startswith("__"):
                return ask(name)
        raise


class OldPaths:
    """Finds modules by their old paths. Comes last, so that it costs nothing where a module is in its place.

    Finder and loader in one, without the base classes of `importlib.abc`, which takes longer to import than stkit.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec where it has moved."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]  # no load_module

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Give the old module the names of the new ones."""
        homes = MOVED[module.__name__]
        warnings.warn(
            f"{module.__name__} is now {' and '.join(homes)}; the old path goes away with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        for home in reversed(homes):
            found = vars(importlib.import_module(home))
            vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})
        for old in REPLACED:
            if old.startswith(f"{module.__name__}."):
                vars(module).pop(old.rpartition(".")[2], None)  # what the successor calls so is another thing
        vars(module)["__getattr__"] = functools.partial(_elsewhere, module.__name__)


__all__ = ["MOVED", "RENAMED", "OldPaths", "renamed"]
