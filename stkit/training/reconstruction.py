"""Generator and Style Transformer trained together by reconstruction, before any adversarial stage.

An encoder beside the synthesis network, L2 and LPIPS through the w_plus it predicts: on a CPU this
gives a generator that renders the data in an hour, where adversarial training needs days. A share of
each batch is rendered from its mean w, the same in all layers, so that W is a space of images too.
Networks can grow as in Karras et al., "Progressive Growing of GANs", ICLR 2018: poses and layout are learnt at a
low resolution, where an image costs a fifth, and each doubling adds detail. Only the generator grows: the inverter sees
its own `input_resolution` from the first step to the last, so that no code changes its meaning on the way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import ImageSet, batch_indices, flip_some
from stkit.measure.lpips import LPIPS, load_lpips
from stkit.measure.paired import paired_errors
from stkit.models.precision import autocast, channels_last
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2
from stkit.models.stylegan2_synthesis import ToRGB
from stkit.photo.images import resize_batch
from stkit.training import parallel
from stkit.training.export import load_initial
from stkit.training.generator import export_generator
from stkit.training.inverter import export_inverter
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


@dataclass(frozen=True)
class ReconstructionConfig:
    """The two networks and the loss: `l2` + `lpips` + `code_norm` * mean square of the codes.

    `mean_share` is the share of each batch that is rendered from its mean w; `code_noise` the standard
    deviation of the noise added to the codes, which keeps neighbouring codes alike. Small generators are
    judged after enlargement to 256 px: with `zoom` LPIPS sees each image at twice its resolution, on
    one of nine crops of half its size, for the price of one look at its own resolution. `dtype` is
    that of the features. The generator learns at `generator_rate` times the learning rate: its weights are
    of unit scale (equalised), the inverter's are not. With `grow_from` the generator starts at that resolution (see
    `stage_at`), and the learning rate starts anew with every stage, since there are new layers to be learnt.
    """

    generator: StyleGAN2Config
    inverter: StyleTransformerConfig
    learning_rate: float = 1e-3
    generator_rate: float = 1.0
    l2: float = 1.0
    lpips: float = 0.8
    code_norm: float = 1e-3
    code_noise: float = 0.05
    mean_share: float = 0.25
    zoom: bool = True
    grow_from: int | None = None
    ema_decay: float = 0.998
    dtype: torch.dtype = torch.float32
    compile: bool = True


class Autoencoder(nn.Module):
    """The two networks of a reconstruction run."""

    def __init__(self, config: ReconstructionConfig) -> None:
        super().__init__()
        self.generator = StyleGAN2(config.generator)
        self.inverter = StyleTransformer(config.inverter)
        # The mapping network has no part in reconstruction; it is fitted to the codes afterwards.
        self.generator.mapping.requires_grad_(False)

    def seen(self, images: Tensor) -> Tensor:
        """`images` [B, 3, H, H] as the inverter takes them."""
        return resize_batch(images, self.inverter.config.input_resolution)

    def forward(self, images: Tensor, dtype: torch.dtype, resolution: int | None = None) -> Tensor:
        """Reconstructions [B, 3, R, R] of `images` [B, 3, H, H]; R is the generator's or one that it grew through."""
        with autocast(images.device, dtype):
            codes = self.inverter(self.seen(images))
        return self.generator.synthesize(codes, noise="none", dtype=dtype, resolution=resolution)


def stage_at(first: int, resolution: int, step: int, steps: int) -> tuple[int, int, int]:
    """The stage of a growing run at `step` of `steps`: its resolution, its first step, and the step after its last.

    It grows from `first` to `resolution`, both powers of two. Each doubling gets 0.4 of the steps of the one before,
    since its images cost two to three times as much.
    """
    stages = [2**power for power in range(first.bit_length() - 1, resolution.bit_length())]
    shares = [0.4**i for i in range(len(stages))]
    ends = [round(steps * sum(shares[: i + 1]) / sum(shares)) for i in range(len(stages))]
    index = next((i for i, end in enumerate(ends) if step < end), len(stages) - 1)
    return stages[index], ends[index - 1] if index else 0, ends[index]


@dataclass
class _Objective:
    """The loss as one function of tensors, so that all of it compiles into one graph."""

    model: Autoencoder
    lpips: LPIPS
    config: ReconstructionConfig
    output_crop: tuple[float, float, float, float]

    def __call__(self, seen: Tensor, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """`seen` are the images as the inverter takes them, `images` the same as they are to be rendered."""
        config = self.config
        part = round(config.mean_share * len(images))
        with autocast(images.device, config.dtype):
            codes = self.model.inverter(seen)
        mean = codes[:part].mean(1, keepdim=True).expand(-1, codes.shape[1], -1)
        noisy = torch.cat([mean, codes[part:]]) + config.code_noise * noise
        output = self.model.generator.synthesize(noisy, noise="none", dtype=config.dtype, resolution=images.shape[-1])
        error = (output - images).square().mean((1, 2, 3))  # of the whole canvas, so that its bars become black
        norm = codes.square().mean()
        loss = config.l2 * error.mean() + config.code_norm * norm
        perceptual = {}
        if config.lpips:
            with autocast(images.device, config.dtype):
                distance = training_lpips(output, images, self.lpips, self.output_crop, config.zoom)
            perceptual["lpips"] = distance.mean()
            loss = loss + config.lpips * perceptual["lpips"]
        return {
            "loss": loss,
            **({"mse_w": error[:part].mean()} if part else {}),
            **({"mse": error[part:].mean()} if part < len(images) else {}),
            **perceptual,
            "norm": norm,
        }


@dataclass
class ReconstructionRun:
    """A resumable run: `train()` leaves the averaged Autoencoder in `ema.model` and in the checkpoint under `ema`.

    `init` is the state of an Autoencoder of the same config to start from. Raises WeightsError when it does not fit.
    """

    config: ReconstructionConfig
    loop: LoopConfig
    train_set: ImageSet
    val_set: ImageSet
    device: torch.device
    init: Mapping[str, Tensor] | None = None
    model: Autoencoder = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.loop.seed)
        self.model = channels_last(Autoencoder(self.config).to(self.device))
        if self.init is not None:
            load_initial(self.model, self.init, "networks")
        elif self.config.grow_from is not None:
            # What is not trained yet must not disturb what is.
            for layer in list(self.model.generator.synthesis.to_rgbs)[1:]:
                assert isinstance(layer, ToRGB)
                nn.init.zeros_(layer.weight)
        parallel.require_shares(self.loop.batch)
        parallel.sync_batch_norms(self.model)
        self.ema = Ema(self.model, copy.deepcopy(self.model), self.config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in network.parameters() if p.requires_grad], "rate": rate}
                for network, rate in ((self.model.generator, self.config.generator_rate), (self.model.inverter, 1.0))
            ],
            self.config.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.lpips = channels_last(load_lpips(self.device))
        objective = _Objective(self.model, self.lpips, self.config, self.train_set.output_crop)
        self.objective = torch.compile(objective) if self.config.compile else objective

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        state: dict[str, Stateful] = {
            "config": Unchanged(run_settings(self.config, self.loop)),
            "model": self.model,
            "ema": self.ema,
            "optimizer": self.optimizer,
        }
        return run_loop(self.loop, state, self.step, self.sample)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One optimiser step."""
        generator = step_generator(self.loop, step)
        indices = batch_indices(len(self.train_set), self.loop.batch, self.loop.seed, step)
        photos = flip_some(self.train_set.batch(indices, self.device), generator)
        shape = (self.loop.batch, self.config.generator.num_ws, self.config.generator.w_dim)
        noise = torch.randn(shape, generator=generator).to(self.device)
        resolution, first, end = self._stage(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["rate"] * cosine_warmup(step - first, end - first)
        self.optimizer.zero_grad()
        views = (self.model.seen(photos), resize_batch(photos, resolution), noise)
        losses = self.objective(*map(parallel.shard, views))
        losses["loss"].backward()
        parallel.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.model, step)
        return {name: value.detach() for name, value in losses.items()}

    def _stage(self, step: int) -> tuple[int, int, int]:
        last = self.config.generator.img_resolution
        return stage_at(self.config.grow_from or last, last, step, self.loop.steps)

    @torch.no_grad()
    def sample(self, step: int) -> dict[str, float]:
        """Write a grid of validation photos over their reconstructions; returns errors on up to 128 of them."""
        model = self.ema.model
        assert isinstance(model, Autoencoder)
        photos = self.val_set.batch(torch.arange(min(128, len(self.val_set))), self.device)
        resolution, _, _ = self._stage(step - 1)
        images = resize_batch(photos, resolution)
        outputs = torch.cat([model(part, self.config.dtype, resolution) for part in photos.split(32)])
        crop, pairs = self.val_set.output_crop, torch.cat([images[:12], outputs[:12]])
        save_samples(self.loop.out, step, pairs, min(12, len(images)), crop)
        errors = paired_errors(outputs, images, self.lpips, crop)
        return {f"val_{name}": round(float(value.mean()), 5) for name, value in errors.items()}


def export_reconstruction(
    model: Autoencoder,
    folder: Path,
    *,
    domain: str,
    alignment: AlignmentTemplate,
    licence: str,
    notes: Mapping[str, Any] | None = None,
) -> tuple[Header, Header]:
    """Write both networks of `model` in float16 to the weights `folder`.

    Fit the mapping network first (`stkit.training.mapping`). Returns the headers of the generator and
    the inverter. Raises WeightsError when a value does not fit float16, OutputError.
    """
    generator = export_generator(
        model.generator, folder, domain=domain, alignment=alignment, licence=licence, notes=notes
    )
    inverter = export_inverter(
        model.inverter,
        folder,
        generator=generator.fingerprint,
        domain=domain,
        alignment=alignment,
        licence=licence,
        notes=notes,
    )
    return generator, inverter


__all__ = [
    "Autoencoder",
    "ReconstructionConfig",
    "ReconstructionRun",
    "export_reconstruction",
    "stage_at",
]
