"""Editor: photo -> subject -> crop -> latents -> edited latents -> image, as one small class."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from PIL import Image

from stkit.contracts.domains import Domain, Subject
from stkit.contracts.framing import picture_box
from stkit.contracts.inversion import InversionContext, ignore_latents, ignore_progress
from stkit.devices import resolve_device
from stkit.editor.defaults import default_weights
from stkit.editor.refinement import refine_latents
from stkit.editor.results import Edit, Framed, Inversion, Inverted
from stkit.editor.steps import EditStep, apply_steps, parse_step
from stkit.errors import StkitError, UsageError
from stkit.files import safe_name
from stkit.latents.latents import Latents, Provenance, join_latents
from stkit.latents.tuning import Tuning, require_base, tuned_generator
from stkit.measure.lpips import LPIPS, find_lpips
from stkit.measure.paired import paired_errors, picture_errors
from stkit.measure.usual import warn_if_unusual
from stkit.models.generators import Renderer, add_style_offsets
from stkit.models.registry import load_generator
from stkit.options import LatentSpace, LayerRange, build_options
from stkit.photo.alignment import frame_photo, outside_share, picture_transform
from stkit.photo.images import picture_part, to_image, to_tensor
from stkit.photo.paste import Blend
from stkit.photo.reading import Photo, load_photo
from stkit.photo.subjects import Box, find_subjects
from stkit.plugins import Registry, load_plugins
from stkit.weights import Weights, find_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("stkit")

_TOGETHER = 8  # images that a GPU makes at once: 1024 px ones take 134 MB in each layer


class InvertChoice(TypedDict, total=False):
    """What `Editor.invert` takes by keyword; see `Editor.invert_all`."""

    face: str | int
    landmarks: np.ndarray | None
    box: Box | None
    refine: Sequence[str]
    on_progress: Callable[[int, int], None]


class Editor:
    """Inverts, edits and generates with one set of weights on one device."""

    def __init__(self, weights: Weights, registry: Registry, device: torch.device) -> None:
        self.weights = weights
        self.registry = registry
        self.device = device
        self.domain: Domain = registry.domain(weights.domain)
        self._ready: dict[str, Renderer] = {}

    def frame(self, photo: Photo, subject: Subject, number: int = 1, subjects_found: int = 1) -> Framed:
        """A located subject, cut out for the model."""
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
        crop = frame_photo(photo.image, matrix, size, self.domain.output_crop)
        return Framed(photo.path, photo.sha256, photo.image.size, subject, number, subjects_found, crop, matrix)

    def frame_all(
        self,
        photo: Photo,
        face: str | int = "all",
        landmarks: np.ndarray | None = None,
        box: Box | None = None,
    ) -> list[Framed]:
        """The chosen subjects of a photo; see `stkit.photo.subjects.find_subjects`. Raises SubjectError, UsageError."""
        subjects, found = find_subjects(self.domain, photo, str(face), landmarks, box)
        return [self.frame(photo, subject, number, found) for number, subject in subjects]

    def picture(self, image: torch.Tensor) -> Image.Image:
        """What to show of a generated image [3, R, R], about [-1, 1]: its picture part."""
        return to_image(picture_part(image, self.domain.output_crop))

    def invert(
        self,
        photo: Photo | Path | str,
        inverter: str | None = None,
        options: Mapping[str, Any] | None = None,
        **chosen: Unpack[InvertChoice],
    ) -> Inversion:
        """Invert one subject of a photo, the largest unless `face` says otherwise; see `invert_all`."""
        if chosen.setdefault("face", "largest") == "all":
            raise UsageError("invert gives one inversion; use invert_all for every subject")
        return self.invert_all(photo, inverter, options, **chosen)[0]

    def invert_all(
        self,
        photo: Photo | Path | str,
        inverter: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        face: str | int = "all",
        landmarks: np.ndarray | None = None,
        box: Box | None = None,
        refine: Sequence[str] = (),
        on_progress: Callable[[int, int], None] = ignore_progress,
    ) -> list[Inversion]:
        """Invert the chosen subjects of a photo, by default all of them; `stkit.photo.subjects.find_subjects` chooses.

        `inverter` is by default the weights' own encoder; `refine` names inverters that go on from the codes,
        with their steps: ["optimize:100", "pti"]. What takes long calls `on_progress` with (steps done, steps
        in all). Raises PhotoError, SubjectError, WeightsError, UsageError.
        """
        if not isinstance(photo, (Photo, Path, str)):
            raise UsageError(f"a photo is a path or a stkit.Photo, not a {type(photo).__name__}; save it to a file")
        photo = photo if isinstance(photo, Photo) else load_photo(photo)
        framed = self.frame_all(photo, face, landmarks, box)
        inverted = self.invert_framed(framed, inverter, options, refine, on_progress)
        for one in inverted:
            warn_if_unusual(self.weights, one.metrics, photo.path, self.domain)
        return [Inversion(**vars(one), photo=photo) for one in inverted]

    def invert_framed(
        self,
        framed: Sequence[Framed],
        inverter: str | None = None,
        options: Mapping[str, Any] | None = None,
        refine: Sequence[str] = (),
        on_progress: Callable[[int, int], None] = ignore_progress,
        on_latents: Callable[[Callable[[], Latents]], None] = ignore_latents,
    ) -> list[Inverted]:
        """Invert subjects in one batch, and refine them together: `pti` tunes one generator for all of them.

        `on_latents` is called after each step of the refinement with a function that gives the latents so far.
        Raises WeightsError, UsageError, StkitError for codes that are not finite.
        """
        inverter = self.registry.inverter_for(self.weights, inverter).name
        pixels = torch.cat([to_tensor(one.crop) for one in framed])
        latents = self.invert_crops(pixels, inverter, options, on_progress)
        latents, gains = refine_latents(self, latents, pixels, refine, on_progress, on_latents)
        if not torch.isfinite(latents.codes).all():
            raise StkitError(f"inverter '{inverter}' gave codes that are not finite; try other options")
        name = "+".join([inverter, *refine])
        rows = tuple(self.provenance(one.path, one.sha256, one.transform, name) for one in framed)
        # On the CPU, as those from files are: they are joined and mixed with each other.
        latents = dataclasses.replace(latents.to("cpu"), provenance=rows)
        output = self.generate(latents)
        errors = self.errors(output, pixels)
        return [
            Inverted(
                one,
                self.picture(pixels[row]),
                self.picture(output[row]),
                latents.row(row),
                {metric: float(values[row]) for metric, values in errors.items()},
                tuple(gains),
                dict(options or {}),
            )
            for row, one in enumerate(framed)
        ]

    @torch.inference_mode()
    def errors(self, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Errors [B] of the picture parts of `images` [B, 3, R, R], clamped, from `targets`, on the CPU, in [-1, 1].

        "mse" at the generator's resolution, and "lpips" (LPIPS-Alex, 256 px wide) where its weights are installed.
        """
        crop = self.domain.output_crop
        errors = {"mse": picture_errors(images, targets, crop)}
        if self.lpips is not None:
            errors["lpips"] = paired_errors(images, targets, self.lpips, crop)["lpips"]
        return errors

    @functools.cached_property
    def lpips(self) -> LPIPS | None:
        """What `errors` measures LPIPS with; None, with a note that says what is missing, where its weights are not."""
        return find_lpips()

    def invert_crops(
        self,
        pixels: torch.Tensor,
        inverter: str | None = None,
        options: Mapping[str, Any] | None = None,
        on_progress: Callable[[int, int], None] = ignore_progress,
    ) -> Latents:
        """Codes of aligned crops [B, 3, R, R] in [-1, 1], without provenance. Raises WeightsError, UsageError."""
        method = self.registry.inverter_for(self.weights, inverter)
        chosen = build_options(method.Options, dict(options or {}))
        context = InversionContext(self.weights, self.device, on_progress=on_progress)
        return method.invert(pixels.to(self.device), chosen, context)

    def provenance(self, photo: Path, sha256: str, transform: np.ndarray, inverter: str) -> Provenance:
        """Where a row of codes came from; `transform` [2, 3] takes crop to photo."""
        return Provenance(
            photo=str(photo.absolute()),
            photo_sha256=sha256,
            transform=tuple(tuple(float(x) for x in row) for row in transform),
            weights=self.weights.name,
            inverter=inverter,
        )

    @torch.inference_mode()
    def generate(self, latents: Latents, resolution: int | None = None) -> torch.Tensor:
        """Images [B, 3, R, R] of `latents`, on the CPU, about [-1, 1]; `resolution` is as for `Renderer.render`.

        Raises LatentsError for another generator's codes.
        """
        latents.require_generator(self.weights.space, self.weights.name)
        latents = latents.broadcast(self.weights.num_ws).to(self.device)
        renderer = self._renderer(latents.tuning)
        styles = renderer.styles(latents.codes)
        if latents.style_offsets is not None:
            styles = add_style_offsets(styles, latents.style_offsets)
        parts = zip(*(style.split(_TOGETHER) for style in styles), strict=True)
        return torch.cat([renderer.render(list(part), resolution=resolution).cpu() for part in parts])

    @functools.cached_property
    def preview_size(self) -> int:
        """The resolution for a quick look: half of the full one where the generator has it cheaply and it is enough."""
        full = self.weights.resolution
        return full // 2 if load_generator(self.weights, self.device).exact_half and full >= 512 else full

    def _renderer(self, tuning: Tuning | None) -> Renderer:
        """What renders, tuned or not; on a CPU as that runs it fastest, with weights for each image.

        The weights' own and the tuned one asked for last are kept.
        """
        key = tuning.fingerprint if tuning else ""
        if key not in self._ready:
            generator = load_generator(self.weights, self.device)
            if tuning is not None:
                require_base(tuning, self.weights)
                generator = tuned_generator(generator, tuning)
                self._ready = {name: kept for name, kept in self._ready.items() if not name}
            self._ready[key] = generator.freeze() if self.device.type == "cpu" else generator
        return self._ready[key]

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], truncation_psi: float = 1.0) -> Latents:
        """Codes of random images, one for each seed; seed 7 is the same image in any list."""
        generator = load_generator(self.weights, self.device)
        z_dim = generator.config.z_dim
        z = torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        w_plus = generator.map(z.to(self.device), truncation_psi)
        rows = (Provenance(weights=self.weights.name),) * len(seeds)
        return Latents(w_plus.cpu().contiguous(), self.weights.space, provenance=rows)

    def sample_name(self, seeds: str, truncation_psi: float) -> str:
        """What the files of samples are called, without a suffix; `seeds` are like "0-15" or "3,7"."""
        return safe_name(f"sample-{self.weights.name}-{seeds.replace(',', '_')}-trunc{truncation_psi:g}")

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
        blend: Blend = "auto",
    ) -> Edit:
        """Edit by one `method`, or by a chain of `edits` like "age=+1.5" and "ganspace:pc3=-2", in order.

        `source` may be several inversions of one photo: all are edited and put into it. For latents give the
        `photo` that they came from (see `stkit.editor.results.find_photo`) to have the edit put into it.
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
        """The edit of a text like "age=+1.5"; see `stkit.editor.steps.parse_step`."""
        return parse_step(text, self.registry, self.weights, self.device, references, layers)

    def apply(
        self, latents: Latents, steps: Sequence[EditStep], references: Latents | None = None, seed: int = 0
    ) -> Latents:
        """The edited codes of all rows, without generating; see `stkit.editor.steps.apply_steps`."""
        return apply_steps(latents, steps, self.registry, self.weights, self.device, references, seed)

    def try_steps(self, steps: Sequence[EditStep], references: Latents | None = None, seed: int = 0) -> None:
        """Edit the mean w by `steps`: raises what is wrong with them before an inversion takes its time."""
        w_avg = load_generator(self.weights, self.device).w_avg.cpu()[None]
        self.apply(Latents(w_avg.clone(), self.weights.space, LatentSpace.W), steps, references, seed)

    def render(
        self,
        latents: Latents,
        photo: Photo | None = None,
        blend: Blend = "auto",
        metrics: Mapping[str, float] | None = None,
    ) -> Edit:
        """The edit that `latents` hold, generated; with `photo`, which all rows must be of, put into it.

        Raises LatentsError for another generator's codes, UsageError.
        """
        if photo is not None and any(row.photo_sha256 != photo.sha256 for row in latents.provenance):
            raise UsageError(f"the latents are not all of {photo.path}; give the photo that they came from")
        before, after = self.before_after(latents)
        return Edit(latents, before, after, photo, self.domain.output_crop, blend, metrics or {})

    def before_after(self, latents: Latents) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, 3, R, R] of `latents` without their edits, and with them. Raises LatentsError as `generate`."""
        return self.generate(latents.unedited()), self.generate(latents)


def _opened(
    source: Inversion | Sequence[Inversion] | Latents, photo: Photo | None
) -> tuple[Latents, Photo | None, Mapping[str, float]]:
    if isinstance(source, Latents):
        return source, photo, {}
    inversions = [source] if isinstance(source, Inversion) else list(source)
    if not inversions:
        raise UsageError("there is nothing to edit; give at least one inversion")
    return join_latents([inversion.latents for inversion in inversions]), inversions[0].photo, inversions[0].metrics


def load(name: str | Weights = "faces", device: str = "auto") -> Editor:
    """An Editor for a domain's default weights (see `stkit.editor.defaults`), or for weights by name or folder.

    `device` is "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps".
    """
    registry = load_plugins()
    if isinstance(name, Weights):
        weights = name
    elif name in registry.domains and not Path(name).is_dir():
        weights = default_weights(registry.domains[name])
    else:
        weights = find_weights(name)
    return Editor(weights, registry, resolve_device(device))


__all__ = ["Editor", "InvertChoice", "load"]
