"""Adversarial training of a StyleGAN2 generator, with adaptive augmentation for small data sets.

Non-saturating logistic loss, lazy R1, an average of the weights, style mixing (Karras et al. 2020,
"Analyzing and Improving the Image Quality of StyleGAN"). It may start from a generator that was
trained by reconstruction, see `stkit.training.reconstruction`, and keep what that one's inverter finds: then half of
the fakes are reconstructions of photos, which have to stay near them as well.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.shapes import shape_values
from stkit.datasets.images import ImageSet, batch_indices, flip_some
from stkit.errors import UsageError
from stkit.measure.lpips import load_lpips
from stkit.measure.paired import paired_errors
from stkit.models.discriminator import Discriminator, DiscriminatorConfig
from stkit.models.generators import Generator
from stkit.models.precision import autocast, channels_last
from stkit.models.projected import ProjectedConfig, ProjectedDiscriminator
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer
from stkit.models.stylegan2 import StyleGAN2
from stkit.photo.images import picture_part, resize_batch
from stkit.tensors import tensors_fingerprint
from stkit.training import parallel
from stkit.training.augment import AugmentConfig, AugmentController, apply_augmentation, draw_augmentation
from stkit.training.export import load_initial, save_module
from stkit.training.log import save_samples
from stkit.training.loop import Ema, LoopConfig, Stateful, Unchanged, run_loop, run_settings, step_generator
from stkit.training.perceptual import training_lpips
from stkit.weights import Header

# The mean w follows the mapping network by this much a step, as in the papers.
W_AVG_RATE = 0.002


@dataclass(frozen=True)
class AdversarialConfig:
    """The two networks and how they are trained.

    `r1_gamma` None is `default_r1_gamma`; the penalty is taken every `d_reg_interval` steps; a projected
    discriminator has no penalty, and the hinge loss in place of the logistic one. For the first `d_warmup`
    steps the discriminator alone learns. In a run with an inverter `keep` weighs MSE + LPIPS of its
    reconstructions against the adversarial loss; `zoom` is as in `ReconstructionConfig`. `ema_images` is the
    half-life of the averaged weights. The augmentation probability starts at `augment_p`; with `ada_target` None
    it stays there, else it goes from 0 to 1 in `ada_images` images at the earliest.
    `dtype` is that of the features.
    """

    generator: StyleGAN2Config
    discriminator: DiscriminatorConfig | ProjectedConfig
    g_learning_rate: float = 2e-3
    d_learning_rate: float = 2e-3
    r1_gamma: float | None = None
    d_reg_interval: int = 16
    d_warmup: int = 0
    keep: float = 200.0
    zoom: bool = True
    ema_images: float = 10_000
    style_mixing: float = 0.9
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    ada_target: float | None = 0.6
    ada_images: int = 500_000
    augment_p: float = 0.0
    dtype: torch.dtype = torch.float32
    compile: bool = True

    def __post_init__(self) -> None:
        sizes = self.generator.img_resolution, self.discriminator.img_resolution
        if sizes[0] != sizes[1]:
            raise UsageError(f"the generator makes images of {sizes[0]} px, but the discriminator takes {sizes[1]} px")


def default_r1_gamma(resolution: int, batch: int) -> float:
    """The weight of R1 by the rule of StyleGAN2-ADA (Karras et al. 2020): 0.0002 * pixels / batch."""
    return 0.0002 * resolution**2 / batch


def r1_penalty(discriminator: Discriminator, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """R1 (Mescheder et al. 2018): mean squared norm of the score's gradient at `images` [B, 3, R, R], a scalar."""
    images = images.detach().requires_grad_()
    scores = discriminator(images, dtype)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass
class GeneratorRun:
    """A resumable run: `train()` leaves the averaged generator in `ema.model` and in the checkpoint under `ema`.

    `init` is the state dict of a generator of the same config to start from. With `inverter`, the one of those
    weights, and `val_set` to measure it on, codes keep their meaning: it and the mapping network stay as they are.
    Raises UsageError when the batch does not fit the discriminator's groups or cannot be halved for the inverter,
    WeightsError when `init` does not fit the config.
    """

    config: AdversarialConfig
    loop: LoopConfig
    train_set: ImageSet
    device: torch.device
    init: Mapping[str, Tensor] | None = None
    inverter: StyleTransformer | None = None
    val_set: ImageSet | None = None
    generator: StyleGAN2 = field(init=False)
    discriminator: Discriminator | ProjectedDiscriminator = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        config, batch = self.config, self.loop.batch
        share = parallel.require_shares(batch)
        if isinstance(config.discriminator, DiscriminatorConfig):
            config.discriminator.require_batch(share)
        torch.manual_seed(self.loop.seed)
        self.generator = channels_last(StyleGAN2(config.generator).to(self.device))
        self.discriminator = channels_last(_build_discriminator(config.discriminator).to(self.device))
        self._d_parameters = [p for p in self.discriminator.parameters() if p.requires_grad]
        if self.init is not None:
            load_initial(self.generator, self.init, "generator")
        if self.inverter is not None:
            if share % 2:
                raise UsageError(f"half of each process's {share} images are reconstructions; give an even number")
            self.inverter = channels_last(copy.deepcopy(self.inverter).eval().requires_grad_(False).to(self.device))
            self.generator.mapping.requires_grad_(False)
            self.lpips = channels_last(load_lpips(self.device))
        self.ema = Ema(self.generator, copy.deepcopy(self.generator), 0.5 ** (batch / config.ema_images))
        self.controller = AugmentController(config.ada_target, config.augment_p, images=config.ada_images)
        # The penalty's steps come on top of the others: the optimiser's pace is set back accordingly (appendix B).
        pace = config.d_reg_interval / (config.d_reg_interval + 1) if self._penalised else 1.0
        moving = [p for p in self.generator.parameters() if p.requires_grad]
        self.g_optimizer = _adam(moving, config.g_learning_rate, 1.0)
        self.d_optimizer = _adam(self._d_parameters, config.d_learning_rate, pace)
        compiled: Callable[[Callable], Callable] = torch.compile if config.compile else lambda function: function
        self._render, self._score = compiled(self._render_eager), compiled(self._score_eager)
        self._invert, self._errors = compiled(self._invert_eager), compiled(self._errors_eager)
        self._r1 = torch.zeros(())
        self._picture = torch.zeros((config.generator.img_resolution,) * 2, dtype=torch.bool, device=self.device)
        picture_part(self._picture, self.train_set.output_crop).fill_(True)

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        settings = run_settings(self.config, self.loop)
        if self.inverter is not None:
            settings["inverter"] = tensors_fingerprint(self.inverter.state_dict())
        state: dict[str, Stateful] = {
            "config": Unchanged(settings),
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
            "augment": self.controller,
        }
        return run_loop(self.loop, state, self.step, self.sample)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One optimiser step of each network, and every `d_reg_interval` steps one of R1."""
        random = step_generator(self.loop, step)
        indices = batch_indices(len(self.train_set), self.loop.batch, self.loop.seed, step)
        reals = parallel.shard(flip_some(self.train_set.batch(indices, self.device), random))
        fakes, g_losses = self._generator_step(reals, random, moves=step >= self.config.d_warmup)
        d_loss, real_scores, fake_scores = self._discriminator_step(reals, fakes, random)
        if self._penalised and step % self.config.d_reg_interval == 0:
            self._r1 = self._r1_step(reals, random)
        self.ema.update(self.generator, step)
        losses = {
            **g_losses,
            "d_loss": d_loss,
            "r1": self._r1,
            "real_score": real_scores.mean(),
            "fake_score": fake_scores.mean(),
            "real_sign": real_scores.sign().mean(),
            "augment_p": torch.tensor(self.controller.p),
        }
        self.controller.update(parallel.gather(real_scores))
        return {name: value.detach() for name, value in losses.items()}

    @property
    def averaged(self) -> StyleGAN2:
        """The averaged generator, which is what the training gives."""
        return cast("StyleGAN2", self.ema.model)

    @torch.no_grad()
    def sample(self, step: int) -> dict[str, float]:
        """Write a grid of 32 averaged samples, always of the same z, with truncation 0.7.

        With an inverter also eight validation photos over their reconstructions; returns errors on up to 128 of them.
        """
        model = self.averaged
        z = torch.randn(32, self.config.generator.z_dim, generator=torch.Generator().manual_seed(self.loop.seed))
        images = [model(part.to(self.device), truncation_psi=0.7, dtype=self.config.dtype) for part in z.split(8)]
        crop, errors = self.train_set.output_crop, {}
        if self.inverter is not None and self.val_set is not None:
            photos = self.val_set.batch(torch.arange(min(128, len(self.val_set))), self.device)
            codes = torch.cat([self._invert_eager(part) for part in photos.split(32)])
            outputs = torch.cat([model.synthesize(part, dtype=self.config.dtype) for part in codes.split(32)])
            images += [F.pad(part[:8], [0] * 7 + [max(8 - len(part), 0)], value=1.0) for part in (photos, outputs)]
            errors = paired_errors(outputs, photos, self.lpips, crop)
        save_samples(self.loop.out, step, torch.cat(images), 8, crop)
        return {f"val_{name}": round(float(value.mean()), 5) for name, value in errors.items()}

    @property
    def _penalised(self) -> bool:
        return isinstance(self.config.discriminator, DiscriminatorConfig)

    def _generator_step(self, reals: Tensor, random: torch.Generator, moves: bool) -> tuple[Tensor, dict[str, Tensor]]:
        self._train_discriminator(False)
        w_plus = self._codes(random)
        with torch.no_grad():
            self.generator.get_buffer("w_avg").lerp_(parallel.gather(w_plus[:, 0]).mean(0), W_AVG_RATE)
        fakes = self._render(self._with_inverted(w_plus, reals))
        scores = self._score(fakes, *self._changes(random))
        loss = F.softplus(-scores).mean() if self._penalised else -scores.mean()
        losses = {"g_loss": loss}
        if self.inverter is not None:
            losses["mse"], losses["lpips"] = self._errors(fakes[::2], reals[::2])
            loss = loss + self.config.keep * (losses["mse"] + losses["lpips"])
        if moves:
            _descend(self.g_optimizer, loss)
        self._train_discriminator(True)
        return fakes.detach(), losses

    def _train_discriminator(self, on: bool) -> None:
        for parameter in self._d_parameters:
            parameter.requires_grad_(on)

    def _discriminator_step(
        self, reals: Tensor, fakes: Tensor, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Of the generator's own step: a second rendering takes a sixth of the time.
        fake_scores = self._score(fakes, *self._changes(random))
        real_scores = self._score(reals, *self._changes(random))
        if self._penalised:
            loss = F.softplus(fake_scores).mean() + F.softplus(-real_scores).mean()
        else:
            loss = F.relu(1 + fake_scores).mean() + F.relu(1 - real_scores).mean()
        _descend(self.d_optimizer, loss)
        return loss, real_scores, fake_scores

    def _r1_step(self, reals: Tensor, random: torch.Generator) -> Tensor:
        # Of the augmented images, which are what the discriminator sees.
        images = apply_augmentation(self._seen(reals), *self._changes(random))
        assert isinstance(self.discriminator, Discriminator)
        penalty = r1_penalty(self.discriminator, images, self.config.dtype)
        gamma = self.config.r1_gamma
        if gamma is None:
            gamma = default_r1_gamma(reals.shape[-1], self.loop.batch)
        _descend(self.d_optimizer, penalty * (gamma / 2 * self.config.d_reg_interval))
        return penalty

    def _codes(self, random: torch.Generator) -> Tensor:
        """w_plus [this process's rows, num_ws, w_dim] of random z, some of them mixed from two at a random layer."""
        config, batch = self.config, self.loop.batch
        num_ws = config.generator.num_ws
        z = torch.randn(batch, 2, config.generator.z_dim, generator=random)
        cutoff = torch.randint(1, num_ws, (batch,), generator=random)
        mixed = torch.rand(batch, generator=random) < config.style_mixing
        first = torch.arange(num_ws) < torch.where(mixed, cutoff, num_ws)[:, None]  # [batch, num_ws]
        w = self.generator.mapping(parallel.shard(z).to(self.device))[:, :, None]  # [rows, 2, 1, w_dim]
        return torch.where(parallel.shard(first).to(self.device)[:, :, None], w[:, 0], w[:, 1])

    def _with_inverted(self, w_plus: Tensor, photos: Tensor) -> Tensor:
        """`w_plus`, with an inverter the codes of `photos` in its even rows."""
        if self.inverter is None:
            return w_plus
        return torch.stack([self._invert(photos[::2]), w_plus[1::2]], 1).flatten(0, 1)

    def _changes(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        config, p = self.config, self.controller.p
        resolution = config.generator.img_resolution
        geometry, colour = draw_augmentation(config.augment, p, self.loop.batch, resolution, random)
        return parallel.shard(geometry).to(self.device), parallel.shard(colour).to(self.device)

    def _render_eager(self, w_plus: Tensor) -> Tensor:
        return self.generator.synthesize(w_plus, noise="random", dtype=self.config.dtype)

    @torch.no_grad()
    def _invert_eager(self, photos: Tensor) -> Tensor:
        assert self.inverter is not None
        with autocast(self.device, self.config.dtype):
            codes = self.inverter(resize_batch(photos, self.inverter.config.input_resolution))
        return codes.float()

    def _errors_eager(self, images: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.config.dtype):
            lpips = training_lpips(images, photos, self.lpips, self.train_set.output_crop, self.config.zoom)
        return (images - photos).square().mean(), lpips.mean()

    def _score_eager(self, images: Tensor, geometry: Tensor, colour: Tensor) -> Tensor:
        return self.discriminator(apply_augmentation(self._seen(images), geometry, colour), self.config.dtype)

    def _seen(self, images: Tensor) -> Tensor:
        # A reconstruction loss leaves bars beside the picture as they come, and they would tell every fake.
        return torch.where(self._picture, images, -1.0)


def _build_discriminator(config: DiscriminatorConfig | ProjectedConfig) -> Discriminator | ProjectedDiscriminator:
    return Discriminator(config) if isinstance(config, DiscriminatorConfig) else ProjectedDiscriminator(config)


def _adam(parameters: list[nn.Parameter], learning_rate: float, pace: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, learning_rate * pace, betas=(0.0, 0.99**pace), fused=True)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    parallel.average_gradients(p for group in optimizer.param_groups for p in group["params"])
    optimizer.step()


def export_generator(
    generator: Generator,
    folder: Path,
    *,
    domain: str,
    alignment: AlignmentTemplate,
    licence: str,
    notes: Mapping[str, Any] | None = None,
) -> Header:
    """Write `generator` in float16, with its mean w computed, as the generator of the weights `folder`.

    Returns the header with the fingerprint. Raises WeightsError when a value does not fit float16, OutputError.
    """
    generator = copy.deepcopy(generator)
    generator.get_buffer("w_avg").copy_(generator.compute_w_avg())
    header = Header(
        kind="generator",
        architecture=generator.architecture,
        config=dataclasses.asdict(generator.config),
        domain=domain,
        alignment=alignment,
        licence=licence,
        notes=notes or {},
        shape=shape_values(generator.config),
    )
    return save_module(folder, generator, header)


__all__ = ["AdversarialConfig", "GeneratorRun", "default_r1_gamma", "export_generator", "r1_penalty"]
