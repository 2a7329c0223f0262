"""Modules that moved: in this version an old path still works, with a DeprecationWarning that names the new one."""

from __future__ import annotations

import importlib
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOVED: dict[str, tuple[str, ...]] = {
    "stkit.alignment": ("stkit.photo.alignment",),
    "stkit.archives": ("stkit.photo.archives",),
    "stkit.batch": ("stkit.jobs.runner",),
    "stkit.batch_edit": ("stkit.jobs.edit",),
    "stkit.batch_inversion": ("stkit.jobs.invert",),
    "stkit.chain": ("stkit.editor.steps",),
    "stkit.directions": ("stkit.latents.directions",),
    "stkit.domains": ("stkit.contracts.domains", "stkit.contracts.framing", "stkit.photo.boxes"),
    "stkit.editing": ("stkit.contracts.editing",),
    "stkit.images": ("stkit.photo.images", "stkit.measure.paired"),
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
    "stkit.training.evaluate": ("stkit.jobs.evaluate",),
    "stkit.training.losses": ("stkit.training.perceptual", "stkit.measure.paired", "stkit.models.precision"),
    "stkit.training.prepare": ("stkit.datasets.prepare",),
    "stkit.training.reference": ("stkit_reference.training",),
    "stkit.tuning": ("stkit.latents.tuning",),
    "stkit.video": ("stkit.jobs.video",),
    "stkit.writeback": ("stkit.photo.writeback",),
}
"""Old module: the new ones that hold what was in it, the one with most of it first."""


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


__all__ = ["MOVED", "OldPaths"]
