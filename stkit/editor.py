"""Editor: photo -> subject -> crop -> latents -> edited latents -> image, as one small class."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stkit.alignment import crop_photo, outside_share
from stkit.chain import EditStep, apply_steps, parse_step
from stkit.domains import Domain, Subject
from stkit.errors import UsageError
from stkit.images import Photo, load_photo, to_image, to_tensor
from stkit.inversion import InversionContext
from stkit.latents import Latents, Provenance, join_latents
from stkit.models.inference import FrozenGenerator, freeze_generator
from stkit.models.stylegan2 import add_style_offsets
from stkit.options import LatentSpace, LayerRange, build_options
from stkit.paste import Blend
from stkit.plugins import Registry, load_plugins
from stkit.quality import warn_if_unusual
from stkit.results import Edit, Inversion
from stkit.subjects import Box, find_subjects
from stkit.weights import Weights, find_weights

logger = logging.getLogger("stkit")

DEFAULT_INVERTER = "style-transformer"


class Editor:
    """Inverts, edits and generates with one set of weights on one device."""

    def __init__(self, weights: Weights, registry: Registry, device: torch.device) -> None:
        self.weights = weights
        self.registry = registry
        self.device = device
        self.domain: Domain = registry.domain(weights.domain)

    def crop(self, photo: Photo, subject: Subject) -> tuple[Image.Image, np.ndarray]:
        """The subject's aligned crop, R x R, and its crop-to-photo matrix [2, 3]."""
        size = self.weights.resolution
        matrix = self.domain.transform(subject, self.weights.alignment, size)
        outside = outside_share(matrix, size, size, photo.image.size)
        if outside > 0.2:
            logger.warning(
                "%.0f%% of the %s's crop lies outside the photo and is mirrored; expect a poor result there",
                100 * outside,
                self.domain.noun,
            )
        return crop_photo(photo.image, matrix, size), matrix

    def locate(self, photo: Photo) -> list[Subject]:
        """The photo's subjects, largest first; the list may be empty."""
        return self.domain.locate(photo.image)

    def invert(
        self,
        photo: Photo | Path | str,
        inverter: str = DEFAULT_INVERTER,
        options: Mapping[str, Any] | None = None,
        *,
        face: str | int = "largest",
        landmarks: np.ndarray | None = None,
        box: Box | None = None,
    ) -> Inversion:
        """Invert one subject of a photo, the largest unless `face` says otherwise; see `invert_all`."""
        if face == "all":
            raise UsageError("invert gives one inversion; use invert_all for every subject")
        return self.invert_all(photo, inverter, options, face=face, landmarks=landmarks, box=box)[0]

    def invert_all(
        self,
        photo: Photo | Path | str,
        inverter: str = DEFAULT_INVERTER,
        options: Mapping[str, Any] | None = None,
        *,
        face: str | int = "all",
        landmarks: np.ndarray | None = None,
        box: Box | None = None,
    ) -> list[Inversion]:
        """Invert the chosen subjects of a photo, by default all of them; `stkit.subjects.find_subjects` chooses.

        Raises PhotoError, SubjectError, WeightsError, UsageError.
        """
        photo = photo if isinstance(photo, Photo) else load_photo(Path(photo))
        subjects, found = find_subjects(self.domain, photo, str(face), landmarks, box)
        return [self.invert_subject(photo, subject, inverter, options, number, found) for number, subject in subjects]

    def invert_subject(
        self,
        photo: Photo,
        subject: Subject,
        inverter: str = DEFAULT_INVERTER,
        options: Mapping[str, Any] | None = None,
        number: int = 1,
        subjects_found: int = 1,
    ) -> Inversion:
        """Invert a subject that was located before. Raises WeightsError, UsageError."""
        crop, matrix = self.crop(photo, subject)
        pixels = to_tensor(crop)
        latents = self.invert_crops(pixels, inverter, options)
        provenance = self.provenance(photo.path, photo.sha256, matrix, inverter)
        latents = dataclasses.replace(latents, provenance=(provenance,))
        output = self.generate(latents)
        error = float((output.clamp(-1, 1) - pixels).square().mean())
        warn_if_unusual(self.weights, error, photo.path)
        metrics = {"mse": error}
        image = self.picture(output[0])
        return Inversion(photo, subject, subjects_found, crop, image, latents, metrics, number, dict(options or {}))

    def invert_crops(
        self, pixels: torch.Tensor, inverter: str = DEFAULT_INVERTER, options: Mapping[str, Any] | None = None
    ) -> Latents:
        """Codes of aligned crops [B, 3, R, R] in [-1, 1], without provenance. Raises WeightsError, UsageError."""
        method = self.registry.inverter(inverter)
        chosen = build_options(method.Options, dict(options or {}))
        return method.invert(pixels.to(self.device), chosen, InversionContext(self.weights, self.device))

    def provenance(self, photo: Path, sha256: str, transform: np.ndarray, inverter: str) -> Provenance:
        """Where a row of codes came from; `transform` [2, 3] takes crop to photo."""
        return Provenance(
            photo=str(photo.absolute()),
            photo_sha256=sha256,
            transform=tuple(tuple(float(x) for x in row) for row in transform),
            weights=self.weights.name,
            inverter=inverter,
        )

    def picture(self, image: torch.Tensor) -> Image.Image:
        """What to show of a generated image [3, R, R], about [-1, 1]."""
        return to_image(image)

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
        source: Inversion | Sequence[Inversion] | Latents,
        method: str | None = None,
        attribute: str | None = None,
        strength: float = 1.0,
        layers: LayerRange | None = None,
        references: Latents | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        edits: Sequence[str | EditStep] = (),
        photo: Photo | None = None,
        blend: Blend = "residual",
    ) -> Edit:
        """Edit by one `method`, or by a chain of `edits` like "age=+1.5" and "ganspace:pc3=-2", in order.

        `source` may be several inversions of one photo: all are edited and put into it. For latents give the
        `photo` that they came from (see `stkit.results.find_photo`) to have the edit put into it.
        Raises UsageError, LatentsError, WeightsError.
        """
        if (method is None) == (not edits):
            raise UsageError("give either one method or edits like age=+1.5")
        latents, photo, metrics = _opened(source, photo)
        steps = [EditStep(method, attribute, strength, layers, options or {})] if method else []
        for edit in edits:
            step = edit if isinstance(edit, EditStep) else self.parse_step(edit, references, layers)
            steps.append(step)
        return self.render(self.apply(latents, steps, references, seed), photo, blend, metrics)

    def parse_step(self, text: str, references: Latents | None = None, layers: LayerRange | None = None) -> EditStep:
        """The edit of a text like "age=+1.5"; see `stkit.chain.parse_step`."""
        return parse_step(text, self.registry, self.weights, self.device, references, layers)

    def apply(
        self, latents: Latents, steps: Sequence[EditStep], references: Latents | None = None, seed: int = 0
    ) -> Latents:
        """The edited codes of all rows, without generating; see `stkit.chain.apply_steps`."""
        return apply_steps(latents, steps, self.registry, self.weights, self.device, references, seed)

    def render(
        self,
        latents: Latents,
        photo: Photo | None = None,
        blend: Blend = "residual",
        metrics: Mapping[str, float] | None = None,
    ) -> Edit:
        """The edit that `latents` hold, generated; with `photo`, which all rows must be of, put into it.

        Raises LatentsError for another generator's codes, UsageError.
        """
        if photo is not None and any(row.photo_sha256 != photo.sha256 for row in latents.provenance):
            raise UsageError(f"the latents are not all of {photo.path}; give the photo that they came from")
        before, after = self.generate(latents.unedited()), self.generate(latents)
        change = float((before.clamp(-1, 1) - after.clamp(-1, 1)).square().mean())
        return Edit(
            latents,
            before,
            after,
            self.picture(after[0]),
            self.picture(before[0]),
            photo,
            self.domain.output_crop,
            blend,
            {**(metrics or {}), "change": change},
        )


def _opened(
    source: Inversion | Sequence[Inversion] | Latents, photo: Photo | None
) -> tuple[Latents, Photo | None, Mapping[str, float]]:
    if isinstance(source, Latents):
        return source, photo, {}
    inversions = [source] if isinstance(source, Inversion) else list(source)
    if not inversions:
        raise UsageError("there is nothing to edit; give at least one inversion")
    return join_latents([inversion.latents for inversion in inversions]), inversions[0].photo, inversions[0].metrics


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


__all__ = ["DEFAULT_INVERTER", "Editor", "load", "resolve_device"]
