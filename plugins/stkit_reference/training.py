"""Training of the reference block (Hu et al., CVPR 2022, section 3.4) on inverted codes, beside a frozen classifier.

The two halves of a batch are sources and references. Three mean squared errors, in the embeddings of the
latent classifier: the chosen attribute's between result and reference, all others' between result and
source, and that between the codes themselves of result and source.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from stkit_label.network import LatentClassifier
from torch import Tensor

from stkit.plugin import (
    Ema,
    Header,
    LoopConfig,
    Stateful,
    Unchanged,
    UnknownNameError,
    UsageError,
    Weights,
    batch_indices,
    run_loop,
    run_settings,
    save_module,
    step_generator,
    tensors_fingerprint,
)
from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig


@dataclass(frozen=True)
class ReferenceConfig:
    """The block and its training; the weights of the losses, learning rate and weight decay are the paper's."""

    block: ReferenceBlockConfig
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    attribute: float = 1.0
    others: float = 1.0
    code: float = 1.0
    ema_decay: float = 0.995


def reference_losses(
    classifier: LatentClassifier, source: Tensor, reference: Tensor, edited: Tensor, index: Tensor
) -> dict[str, Tensor]:
    """The three losses, each a scalar, of w_plus codes [B, num_ws, w_dim] edited in attribute `index` [B].

    Embeddings and codes are compared in units of their spread (`embedding_std`, `code_std`), so that the
    losses do not depend on the scale of either.
    """
    unit = classifier.embedding_std[:, None]
    wanted, kept, got = (classifier.embed(codes) / unit for codes in (reference, source, edited))  # [B, K, E]
    chosen = F.one_hot(index, got.shape[1]).bool()
    losses = {"attribute": (got - wanted)[chosen].square().mean()}
    if got.shape[1] > 1:
        losses["others"] = (got - kept)[~chosen].square().mean()
    losses["code"] = ((edited - source) / classifier.code_std).square().mean()
    return losses


@dataclass
class ReferenceRun:
    """A resumable run: `train()` leaves the averaged ReferenceBlock in `ema.model`.

    `train_codes` and `val_codes` are w_plus [N, num_ws, w_dim] of the classifier's generator. Raises
    UsageError when the parts do not fit each other, UnknownNameError for attributes that the classifier
    does not know.
    """

    config: ReferenceConfig
    classifier: LatentClassifier
    loop: LoopConfig
    train_codes: Tensor
    val_codes: Tensor
    device: torch.device
    model: ReferenceBlock = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        shape, known = self.config.block, self.classifier.config
        for name in shape.attributes:
            if name not in known.attributes:
                raise UnknownNameError("attribute", name, known.attributes)
        if (shape.num_ws, shape.w_dim) != (known.num_ws, known.w_dim):
            raise UsageError(
                f"the block is for codes of {shape.num_ws} layers and width {shape.w_dim}, but the classifier for "
                f"{known.num_ws} and {known.w_dim}"
            )
        if self.loop.batch % 2:
            raise UsageError(f"batch {self.loop.batch} has no halves for sources and references; give an even one")
        if min(len(self.train_codes), len(self.val_codes)) < 2:
            raise UsageError("training and validation need two photos each, a source and a reference; give more")
        torch.manual_seed(self.loop.seed)
        self.classifier = copy.deepcopy(self.classifier).to(self.device)
        self.codes = self.train_codes.to(self.device)
        self.numbers = torch.tensor([known.attributes.index(name) for name in shape.attributes], device=self.device)
        self.model = ReferenceBlock(shape).to(self.device)
        self.model.code_mean.copy_(self.classifier.code_mean)
        self.model.code_std.copy_(self.classifier.code_std)
        self.ema = Ema(self.model, copy.deepcopy(self.model), self.config.ema_decay)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        settings = run_settings(self.config, self.loop)
        settings["codes"] = tensors_fingerprint({"codes": self.codes})
        settings["classifier"] = tensors_fingerprint(self.classifier.state_dict())
        state: dict[str, Stateful] = {
            "config": Unchanged(settings),
            "model": self.model,
            "ema": self.ema,
            "optimizer": self.optimizer,
        }
        return run_loop(self.loop, state, self.step, self.sample)

    def held_out(self) -> dict[str, dict[str, float]]:
        """See `transfer_figures`."""
        return transfer_figures(self.averaged.cpu(), self.classifier.cpu(), self.val_codes)

    def describe(self, figures: Mapping[str, Any]) -> str:
        """The figures of one attribute as people read them."""
        return (
            f"{100 * figures['transfer']:.0f}% of the way to the reference, others moved by {figures['drift']:.2f} "
            f"standard deviations, on {len(self.val_codes)} held-out pairs, says the classifier"
        )

    def export(self, folder: Path, weights: Weights, notes: Mapping[str, Any]) -> Header:
        """Write what was learnt; see `export_reference`."""
        return export_reference(self.averaged, folder, weights, notes)

    @property
    def averaged(self) -> ReferenceBlock:
        """The model with averaged parameters."""
        model = self.ema.model
        assert isinstance(model, ReferenceBlock)
        return model

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One optimiser step."""
        random = step_generator(self.loop, step)
        rows = batch_indices(len(self.codes), self.loop.batch, self.loop.seed, step).to(self.device)
        source, reference = self.codes[rows].chunk(2)
        chosen = torch.randint(len(self.numbers), (len(source),), generator=random).to(self.device)
        edited = self.model(source, reference, chosen)
        losses = reference_losses(self.classifier, source, reference, edited, self.numbers[chosen])
        weights = dataclasses.asdict(self.config)
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.ema.update(self.model, step)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    def sample(self, step: int) -> dict[str, float]:
        """The figures of `transfer_figures` on the codes for validation, flat."""
        figures = transfer_figures(self.averaged, self.classifier, self.val_codes.to(self.device))
        return {f"val_{name}_{key}": value for name, values in figures.items() for key, value in values.items()}


@torch.no_grad()
def transfer_figures(block: ReferenceBlock, classifier: LatentClassifier, codes: Tensor) -> dict[str, dict[str, float]]:
    """For each attribute of the block, with codes [N, num_ws, w_dim] as sources and, rolled by half, as references:

    `transfer`, the share of the way from the source's score to the reference's that the result has gone
    (the slope of a least-squares line through zero), and `drift`, the mean absolute change of the other
    attributes' scores, in standard deviations, as the classifier sees them.
    """
    reference = codes.roll(len(codes) // 2, 0)
    before, wanted = classifier.scores(codes), classifier.scores(reference)
    figures = {}
    for i, name in enumerate(block.config.attributes):
        k = classifier.config.attributes.index(name)
        index = torch.full((len(codes),), i, device=codes.device)
        moved = classifier.scores(block(codes, reference, index)) - before
        way = (wanted - before)[:, k]
        others = moved[:, torch.arange(moved.shape[1], device=codes.device) != k]
        figures[name] = {
            "transfer": round(float((moved[:, k] * way).sum() / way.square().sum().clamp(min=1e-12)), 4),
            "drift": round(float(others.abs().mean().nan_to_num()), 4),
        }
    return figures


def export_reference(
    block: ReferenceBlock, folder: Path, weights: Weights, notes: Mapping[str, Any] | None = None
) -> Header:
    """Write `block` in float16 to `folder`/reference.safetensors, as belonging to the generator of `weights`.

    Returns the header with the fingerprint. Raises WeightsError when a value does not fit float16, OutputError.
    """
    header = weights.part_header("reference", "reference-block", dataclasses.asdict(block.config), notes)
    return save_module(folder, block, header)


__all__ = ["ReferenceConfig", "ReferenceRun", "export_reference", "reference_losses", "transfer_figures"]
