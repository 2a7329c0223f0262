"""Training of an inverter beside a frozen generator (Hu et al., CVPR 2022, section 3.2 and its appendix).

L2, LPIPS and identity between a photo and its reconstruction, the same for every architecture; of a
Style Transformer the encoder, its z and its copy of the mapping network are trained. Codes that are
known, of the generator's own samples, can be mixed in. e4e adds its own losses.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.contracts.domains import Domain
from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.shapes import Shape
from stkit.datasets.images import ImageSet, batch_indices, flip_some
from stkit.errors import UsageError
from stkit.measure.efficientnet import INPUT_WIDTH, load_lite0
from stkit.measure.lpips import LPIPS, load_lpips
from stkit.measure.paired import paired_errors
from stkit.models.generators import Generator
from stkit.models.precision import autocast, channels_last
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig, encode_iteratively
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.photo.images import picture_part, resize_batch
from stkit.tensors import tensors_fingerprint
from stkit.training import parallel
from stkit.training.augment import PHOTO_AUGMENT, apply_augmentation, draw_augmentation
from stkit.training.e4e import E4EConfig, E4ELosses
from stkit.training.export import load_initial, save_module
from stkit.training.log import save_samples
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
from stkit.training.perceptual import training_lpips
from stkit.weights import Header

Embedder = Callable[[Tensor], Tensor]
Network: TypeAlias = StyleTransformer | PSPEncoder


@dataclass(frozen=True)
class InverterConfig:
    """The network and the weights of the loss's parts, 0 to leave one out.

    `latent` is the share of batches (0 to 1) that are the generator's own samples, whose codes are
    known; `augment` is how often (0 to 1) each change of `PHOTO_AUGMENT` is made to a photo; `zoom` is as in
    `ReconstructionConfig`; `dtype` is that of the features.
    """

    inverter: StyleTransformerConfig | PSPEncoderConfig
    learning_rate: float = 1e-4
    l2: float = 1.0
    lpips: float = 0.8
    identity: float = 0.1
    latent: float = 0.0
    augment: float = 0.0
    zoom: bool = True
    ema_decay: float = 0.998
    dtype: torch.dtype = torch.float32
    compile: bool = True


def load_identity(domain: Domain, template: AlignmentTemplate, device: torch.device) -> Embedder:
    """The network of the identity loss: the domain's own, else EfficientNet-lite0, as the paper takes MoCo for cars.

    Raises MissingPackageError where lite0 is not installed.
    """
    own = domain.load_embedder(template, device)
    if own is not None:
        return own
    network = load_lite0(device)

    def embed(images: Tensor) -> Tensor:
        picture = picture_part(images, domain.output_crop)
        return F.normalize(network(resize_batch(picture, INPUT_WIDTH)).float(), dim=1)

    return embed


def comparison_resolution(inverter: StyleTransformerConfig | PSPEncoderConfig, generator: Shape) -> int:
    """Where photos and reconstructions are compared: the generator's resolution, or the paper's 256 px above it.

    An inverter that sees more than that is compared at its own input resolution.
    """
    return max(inverter.input_resolution, min(generator.img_resolution, 256))


@dataclass
class _Objective:
    """The loss as one function of tensors, so that all of it compiles into one graph."""

    inverter: Network
    generator: Generator
    lpips: LPIPS
    embedder: Embedder | None
    config: InverterConfig
    output_crop: tuple[float, float, float, float]
    e4e: E4ELosses | None = None

    def __call__(self, images: Tensor, codes: Tensor | None, stage: int | Tensor | None = None) -> dict[str, Tensor]:
        """The mean over the passes of what each loses, `loss` and its parts; one pass but for ReStyle."""
        passes = [self._losses(*made, images, codes, stage) for made in self._passes(images, stage)]
        return {name: torch.stack([losses[name] for losses in passes]).mean() for name in passes[0]}

    def _passes(self, images: Tensor, stage: int | Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Codes and what the generator makes of them; each pass of ReStyle begins anew from the one before."""
        network, config = self.inverter, self.config
        seen = _seen(images, config)
        if not isinstance(network, PSPEncoder) or network.config.iterations == 1:
            with autocast(images.device, config.dtype):
                predicted = network(seen, stage) if isinstance(network, PSPEncoder) else network(seen)
            yield predicted, _render(self.generator, predicted, config)
            return
        predicted = network.latent_avg.expand(len(images), -1, -1)
        with torch.no_grad():
            made = _made(self.generator, predicted[:1], config)
            made = made.expand(len(images), -1, -1, -1)
        for _ in range(network.config.iterations):
            with autocast(images.device, config.dtype):
                offsets = network.offsets(torch.cat([seen, network.seen(made.detach())], 1), stage)
            predicted = predicted.detach() + offsets
            made = _made(self.generator, predicted, config)
            yield predicted, _compared(made, config, self.generator)

    def _losses(
        self, predicted: Tensor, output: Tensor, images: Tensor, codes: Tensor | None, stage: int | Tensor | None
    ) -> dict[str, Tensor]:
        config = self.config
        losses = {"mse": (output - images).square().mean()}
        loss = config.l2 * losses["mse"]
        with autocast(images.device, config.dtype):
            if config.lpips:
                distance = training_lpips(output, images, self.lpips, self.output_crop, config.zoom)
                losses["lpips"] = distance.mean()
                loss = loss + config.lpips * losses["lpips"]
            if config.identity and self.embedder is not None:
                losses["identity"] = 1 - _likeness(self.embedder, output, images).mean()
                loss = loss + config.identity * losses["identity"]
        if self.e4e is not None and stage is not None:
            near_w = self.e4e.losses(predicted, stage)
            loss = loss + self.e4e.weighted(near_w)
            losses.update(near_w)
        if codes is not None:
            losses["latent"] = (predicted - codes).square().mean()
            loss = loss + losses["latent"]
        return {"loss": loss, **losses}


def _render(generator: Generator, codes: Tensor, config: InverterConfig) -> Tensor:
    """Images of `codes` [B, num_ws, w_dim] at the resolution of the comparison."""
    return _compared(_made(generator, codes, config), config, generator)


def _made(generator: Generator, codes: Tensor, config: InverterConfig) -> Tensor:
    """Images of `codes`, at half the generator's resolution where that is cheap and as good."""
    size = comparison_resolution(config.inverter, generator.config)
    resolution = generator.seen_resolution if generator.seen_resolution >= size else None
    return generator.synthesize(codes, dtype=config.dtype, resolution=resolution)


def _compared(images: Tensor, config: InverterConfig, generator: Generator) -> Tensor:
    """The generator's `images` at the resolution of the comparison."""
    return resize_batch(images, comparison_resolution(config.inverter, generator.config))


def _seen(images: Tensor, config: InverterConfig) -> Tensor:
    """`images` as the inverter sees them."""
    return resize_batch(images, config.inverter.input_resolution)


@torch.no_grad()
def _predict(
    network: Network, generator: Generator, images: Tensor, config: InverterConfig, stage: int | None
) -> Tensor:
    """The codes [B, num_ws, w_dim] of `images`, after all passes."""
    images = _seen(images, config)
    with autocast(images.device, config.dtype):
        if not isinstance(network, PSPEncoder):
            return network(images)
        if network.config.iterations == 1:
            return network(images, stage)
        return encode_iteratively(network, generator, images, stage=stage, dtype=config.dtype)[-1]


def _likeness(embedder: Embedder, images: Tensor, references: Tensor) -> Tensor:
    """Cosine of the embeddings, row by row, [B]; gradients reach `images` alone."""
    with torch.no_grad():
        wanted = embedder(references).float()
    return (embedder(images).float() * wanted).sum(1)


@dataclass
class InverterRun:
    """A resumable run: `train()` leaves the averaged network in `ema.model` and in the checkpoint under `ema`.

    The network is what the config is of: a StyleTransformer or a PSPEncoder. `e4e` are the settings of
    a progressive encoder's own losses, by default the paper's. The image sets are at the
    `comparison_resolution`. `embedder` comes from `load_identity`; `init` is the state dict of an
    inverter of the same config to start from, otherwise the mapping network and `latent_avg` are the
    generator's, the backbone "lite0" has its ImageNet weights, and the rest is random. Raises UsageError
    when the parts do not fit each other, WeightsError when `init` does not fit the config,
    MissingPackageError when lite0's weights are not there.
    """

    config: InverterConfig
    generator: Generator
    loop: LoopConfig
    train_set: ImageSet
    val_set: ImageSet
    device: torch.device
    embedder: Embedder | None = None
    init: Mapping[str, Tensor] | None = None
    e4e: E4EConfig | None = None
    model: Network = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        config = self.config
        torch.manual_seed(self.loop.seed)
        self.generator = copy.deepcopy(self.generator).eval().requires_grad_(False).to(self.device)
        self.model = channels_last(_build(config.inverter).to(self.device))
        self._start()
        parallel.require_shares(self.loop.batch)
        parallel.sync_batch_norms(self.model)
        progressive = isinstance(config.inverter, PSPEncoderConfig) and config.inverter.progressive
        if progressive and parallel.world_size() > 1:
            raise UsageError("e4e's latent discriminator trains in one process only; start it without torchrun")
        self.near_w = E4ELosses(self.e4e or E4EConfig(), self.generator, self.device) if progressive else None
        self.ema = Ema(self.model, copy.deepcopy(self.model), config.ema_decay)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True)
        self.lpips = channels_last(load_lpips(self.device))
        crop = self.train_set.output_crop
        objective = _Objective(self.model, self.generator, self.lpips, self.embedder, config, crop, self.near_w)
        self.objective = torch.compile(objective) if config.compile else objective

    def _check(self) -> None:
        ours, theirs = self.config.inverter, self.generator.config
        for name, mine, wanted in (
            ("num_ws", ours.num_ws, theirs.num_ws),
            ("width of w", ours.w_dim, theirs.w_dim),
        ):
            if mine != wanted:
                raise UsageError(f"the inverter's {name} is {mine}, but the generator needs {wanted}")
        size = comparison_resolution(ours, theirs)
        for images in (self.train_set, self.val_set):
            if images.images.shape[-1] != size:
                raise UsageError(
                    f"the images have {images.images.shape[-1]} px, but they are compared at {size} px; load them so"
                )
        if self.config.identity and self.embedder is None:
            raise UsageError("the identity loss needs a network; give an embedder, or set its weight to 0")
        if not 0 <= self.config.latent <= 1:
            raise UsageError(f"latent {self.config.latent} is not a share of the batches; give 0 to 1")
        if not 0 <= self.config.augment <= 1:
            raise UsageError(f"augment {self.config.augment} is not a probability; give 0 to 1")

    def _start(self) -> None:
        if self.init is not None:
            load_initial(self.model, self.init, "inverter")
            return
        self.model.get_buffer("latent_avg").copy_(self.generator.w_avg)
        if isinstance(self.model, PSPEncoder):
            return
        if self.model.config.backbone == "lite0":
            self.model.backbone.load_state_dict(load_lite0(self.device).state_dict(), strict=False)  # but for its head
        try:
            self.model.mapping.load_state_dict(self.generator.mapping.state_dict())
        except RuntimeError as error:
            theirs = self.generator
            raise UsageError(
                f"the inverter's mapping network cannot start from the generator's: it needs mapping_layers "
                f"{len(theirs.mapping.layers)} and d_model {theirs.config.z_dim}"
            ) from error

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        settings = run_settings(self.config, self.loop)
        settings["generator"] = tensors_fingerprint(self.generator.state_dict())
        if settings["inverter"].get("resize") == "bilinear":
            del settings["inverter"]["resize"]  # as checkpoints have it that were begun before there was a choice
        if not settings["augment"]:
            del settings["augment"]  # likewise
        state: dict[str, Stateful] = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        if self.near_w is not None:
            settings["e4e"] = dataclasses.asdict(self.near_w.config)
            state.update(self.near_w.state())
        state = {"config": Unchanged(settings), **state}
        return run_loop(self.loop, state, self.step, self.sample)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One optimiser step."""
        random = step_generator(self.loop, step)
        images, codes = self._batch(step, random)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * cosine_warmup(step, self.loop.steps)
        self.optimizer.zero_grad()
        stage = self._stage(step)
        losses = self.objective(images, codes, None if stage is None else torch.tensor(stage, device=self.device))
        losses["loss"].backward()
        parallel.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.model, step)
        if self.near_w is not None and stage is not None:
            fakes = _predict(self.model, self.generator, images, self.config, stage)
            losses["discriminator"] = self.near_w.train_discriminator(fakes, stage, step, random)
        return {name: value.detach() for name, value in losses.items()}

    def _stage(self, step: int) -> int | None:
        """e4e's progress: the last layer with an offset of its own."""
        if self.near_w is None:
            return None
        return self.near_w.config.stage(step, self.loop.steps, self.config.inverter.num_ws)

    def _batch(self, step: int, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """This process's photos, or in a share `latent` of the steps samples with their codes."""
        share = self.config.latent
        if int((step + 1) * share) > int(step * share):
            z = torch.randn(self.loop.batch, self.generator.config.z_dim, generator=random).to(self.device)
            with torch.no_grad():
                codes = self.generator.map(parallel.shard(z))
                return _render(self.generator, codes, self.config).clamp(-1, 1), codes
        indices = batch_indices(len(self.train_set), self.loop.batch, self.loop.seed, step)
        images = flip_some(self.train_set.batch(indices, self.device), random)
        if self.config.augment:
            drawn = draw_augmentation(PHOTO_AUGMENT, self.config.augment, len(images), images.shape[-1], random)
            picture = picture_part(images, self.train_set.output_crop)
            picture.copy_(apply_augmentation(picture, *(each.to(self.device) for each in drawn)).clamp(-1, 1))
        return parallel.shard(images), None

    @torch.no_grad()
    def sample(self, step: int) -> dict[str, float]:
        """Write a grid of validation photos over their reconstructions; returns errors on up to 128 of them.

        MSE, LPIPS and, with an embedder, the mean cosine of the embeddings as `val_identity`.
        """
        model = self.ema.model
        assert isinstance(model, (StyleTransformer, PSPEncoder))
        images = self.val_set.batch(torch.arange(min(128, len(self.val_set))), self.device)
        outputs, likeness = [], []
        for part in images.split(32):
            codes = _predict(model, self.generator, part, self.config, self._stage(step))
            outputs.append(_render(self.generator, codes, self.config))
            if self.embedder is not None:
                likeness.append(_likeness(self.embedder, outputs[-1].clamp(-1, 1), part))
        output = torch.cat(outputs)
        crop, pairs = self.val_set.output_crop, torch.cat([images[:12], output[:12]])
        save_samples(self.loop.out, step, pairs, min(12, len(images)), crop)
        errors = paired_errors(output, images, self.lpips, crop)
        if likeness:
            errors["identity"] = torch.cat(likeness)
        return {f"val_{name}": round(float(value.mean()), 5) for name, value in errors.items()}


def _build(config: StyleTransformerConfig | PSPEncoderConfig) -> Network:
    return PSPEncoder(config) if isinstance(config, PSPEncoderConfig) else StyleTransformer(config)


def export_inverter(
    inverter: Network,
    folder: Path,
    *,
    generator: str,
    domain: str,
    alignment: AlignmentTemplate,
    licence: str,
    notes: Mapping[str, Any] | None = None,
    int8: bool = False,
) -> Header:
    """Write `inverter`, in float16 or in `int8`, to the weights `folder`; the trunk of lite0 is always in float16.

    `generator` is the fingerprint of the generator in it. Returns the header with the fingerprint. Raises WeightsError
    when a value does not fit float16, OutputError.
    """
    header = Header(
        kind="inverter",
        architecture=inverter.config.architecture,
        config=dataclasses.asdict(inverter.config),
        domain=domain,
        alignment=alignment,
        licence=licence,
        generator=generator,
        notes=notes or {},
    )
    # In 8 bits lite0's features shift through its fifty layers: ffhq's LPIPS went from 0.1971 to 0.2013.
    lite0 = isinstance(inverter.config, StyleTransformerConfig) and inverter.config.backbone == "lite0"
    return save_module(folder, inverter, header, int8, ["backbone."] if lite0 else [])


__all__ = ["Embedder", "InverterConfig", "InverterRun", "comparison_resolution", "export_inverter", "load_identity"]
