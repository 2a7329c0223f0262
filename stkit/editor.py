"""Editor: photo -> subject -> crop -> latents -> edited latents -> image, as one small class."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stkit.alignment import frame_photo, outside_share, picture_transform
from stkit.domains import Domain, Subject, picture_box
from stkit.editing import EditContext
from stkit.errors import StkitError, SubjectError, UsageError
from stkit.images import Photo, load_photo, picture_part, to_image, to_tensor
from stkit.inversion import InversionContext
from stkit.latents import Latents, Provenance
from stkit.models.inference import FrozenGenerator, freeze_generator
from stkit.models.stylegan2 import add_style_offsets
from stkit.options import LatentSpace, LayerRange, build_options
from stkit.plugins import Registry, load_plugins
from stkit.weights import Weights, find_weights

logger = logging.getLogger("stkit")

DEFAULT_INVERTER = "style-transformer"


@dataclass(frozen=True, eq=False)
class Inversion:
    """A photo's subject found again by the generator: `crop` is what it should be, `image` what it is.

    Both are the picture alone, without the bars of domains whose pictures are not square.
    `metrics` are of the picture.
    """

    photo: Photo
    subject: Subject
    subjects_found: int
    crop: Image.Image
    image: Image.Image
    latents: Latents
    metrics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit: its picture and its codes."""

    image: Image.Image
    latents: Latents


class Editor:
    """Inverts, edits and generates with one set of weights on one device."""

    def __init__(self, weights: Weights, registry: Registry, device: torch.device) -> None:
        self.weights = weights
        self.registry = registry
        self.device = device
        self.domain: Domain = registry.domain(weights.domain)

    def crop(self, photo: Photo, subject: Subject) -> tuple[Image.Image, np.ndarray]:
        """The subject's aligned crop, R x R with its bars black, and its crop-to-photo matrix [2, 3]."""
        size = self.weights.resolution
        matrix = self.domain.transform(subject, self.weights.alignment, size)
        box = picture_box(self.domain.output_crop, size)
        inner = picture_transform(matrix, box)
        outside = outside_share(inner, box[2] - box[0], box[3] - box[1], photo.image.size)
        if outside > 0.2:
            logger.warning(
                "%.0f%% of the %s's crop lies outside the photo and is mirrored; expect a poor result there",
                100 * outside,
                self.domain.noun,
            )
        return frame_photo(photo.image, matrix, size, self.domain.output_crop), matrix

    def picture(self, image: torch.Tensor) -> Image.Image:
        """What to show of a generated image [3, R, R], about [-1, 1]: its picture part."""
        return to_image(picture_part(image, self.domain.output_crop))

    def locate(self, photo: Photo) -> list[Subject]:
        """The photo's subjects, largest first. Raises SubjectError when there is none."""
        subjects = self.domain.locate(photo.image)
        if not subjects:
            raise SubjectError(
                f"no {self.domain.noun} found in {photo.path}; use a photo where it is upright, seen from the front "
                f"and not tiny"
            )
        if len(subjects) > 1:
            logger.info("%d %ss found in %s; took the largest", len(subjects), self.domain.noun, photo.path)
        return subjects

    def invert(
        self, photo: Photo | Path | str, inverter: str = DEFAULT_INVERTER, options: Mapping[str, Any] | None = None
    ) -> Inversion:
        """Invert the largest subject of a photo. Raises PhotoError, SubjectError, WeightsError, UsageError."""
        photo = photo if isinstance(photo, Photo) else load_photo(Path(photo))
        method = self.registry.inverter(inverter)
        chosen = build_options(method.Options, dict(options or {}))
        subjects = self.locate(photo)
        crop, matrix = self.crop(photo, subjects[0])
        pixels = to_tensor(crop)
        latents = method.invert(pixels.to(self.device), chosen, InversionContext(self.weights, self.device))
        provenance = Provenance(
            photo=str(photo.path.absolute()),
            photo_sha256=photo.sha256,
            transform=tuple(tuple(float(x) for x in row) for row in matrix),
            weights=self.weights.name,
            inverter=inverter,
        )
        latents = dataclasses.replace(latents, provenance=(provenance,))
        output = self.generate(latents)
        error = float(picture_part(output.clamp(-1, 1) - pixels, self.domain.output_crop).square().mean())
        images = self.picture(pixels[0]), self.picture(output[0])
        return Inversion(photo, subjects[0], len(subjects), *images, latents, {"mse": error})

    @torch.inference_mode()
    def generate(self, latents: Latents) -> torch.Tensor:
        """Images [B, 3, R, R] of `latents`, on the CPU, about [-1, 1]. Raises LatentsError for another generator's."""
        latents.require_generator(self.weights.fingerprint, self.weights.name)
        generator = self.weights.generator(self.device)
        codes = latents.codes.to(self.device)
        w_plus = generator.broadcast(codes) if latents.space is LatentSpace.W else codes
        network = self._frozen if self.device.type == "cpu" else generator
        styles = (self._frozen if self.device.type == "cpu" else generator.synthesis).styles(w_plus)
        if latents.style_offsets is not None:
            styles = add_style_offsets(styles, latents.style_offsets.to(self.device))
        return network.synthesis(styles).cpu()

    @functools.cached_property
    def _frozen(self) -> FrozenGenerator:
        """The generator as a CPU runs it fastest: image by image, with weights of its own for each."""
        return freeze_generator(self.weights.generator(self.device))

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], truncation_psi: float = 1.0) -> Latents:
        """Codes of random images, one for each seed; seed 7 is the same image in any list."""
        generator = self.weights.generator(self.device)
        z_dim = generator.config.z_dim
        z = torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        w_plus = generator.map(z.to(self.device), truncation_psi)
        return Latents(w_plus.cpu().contiguous(), self.weights.fingerprint)

    def edit(
        self,
        source: Inversion | Latents,
        method: str,
        attribute: str | None = None,
        strength: float = 1.0,
        layers: LayerRange | None = None,
        references: Latents | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Edit:
        """Edit the first row of `source` with a registered method. Raises UsageError, LatentsError, WeightsError."""
        latents = source.latents if isinstance(source, Inversion) else source
        latents.require_generator(self.weights.fingerprint, self.weights.name)
        chosen = self.registry.editing_method(method)
        if latents.space is not chosen.space:
            raise UsageError(f"method '{method}' edits {chosen.space} codes, and these are {latents.space}")
        if chosen.needs_reference and references is None:
            raise UsageError(f"method '{method}' needs a reference photo; give one with --ref")
        if layers:
            layers.indices(self.weights.num_ws)
        context = EditContext(self.weights, self.device, attribute, strength, layers, references, seed)
        self._warn_outside_safe_range(method, context)
        edited = chosen.edit(latents, build_options(chosen.Options, dict(options or {})), context)
        if not torch.isfinite(edited.codes).all():
            raise StkitError(f"method '{method}' gave codes that are not finite; try a smaller strength")
        return Edit(self.picture(self.generate(edited)[0]), edited)

    def _warn_outside_safe_range(self, method: str, context: EditContext) -> None:
        for attribute in self.registry.editing_method(method).attributes(context):
            low, high = attribute.safe_range
            if attribute.name == context.attribute and not low <= context.strength <= high:
                logger.warning(
                    "strength %g is outside the range of %g to %g in which '%s' is known to look well",
                    context.strength,
                    low,
                    high,
                    attribute.name,
                )


def load(name: str = "faces", device: str = "auto") -> Editor:
    """An Editor for a domain's default weights, or for weights by name or folder.

    `device` is "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps".
    """
    registry = load_plugins()
    if name in registry.domains and not Path(name).is_dir():
        name = registry.domains[name].default_weights
    return Editor(find_weights(name), registry, resolve_device(device))


def resolve_device(name: str) -> torch.device:
    """The torch device of a name. Raises UsageError when this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device '{name}' is not available here; use --device cpu") from error
    return device


__all__ = ["DEFAULT_INVERTER", "Edit", "Editor", "Inversion", "load", "resolve_device"]
