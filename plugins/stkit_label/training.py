"""Training of the latent classifier (Hu et al., CVPR 2022, section 3.4) on inverted codes of labelled photos.

Binary cross-entropy for every attribute that a photo has a label for. Adding noise to the codes keeps
the classifier to what many photos show, and its gradient with it, along which `label` edits go.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.plugin import (
    Ema,
    Header,
    LabelledCodes,
    LoopConfig,
    Stateful,
    Unchanged,
    UsageError,
    Weights,
    batch_indices,
    cosine_warmup,
    run_loop,
    run_settings,
    save_module,
    tensors_fingerprint,
)
from stkit_label.network import LatentClassifier, LatentClassifierConfig

LOGIT_SCALE = math.pi / math.sqrt(3)
"""The logit that stands for one standard deviation of a number: that of a logistic distribution."""


@dataclass(frozen=True)
class ClassifierConfig:
    """The network and how it is trained; `noise` is in standard deviations of the codes."""

    classifier: LatentClassifierConfig
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    noise: float = 2.0
    ema_decay: float = 0.995


@dataclass(frozen=True)
class Target:
    """What the label of an attribute means: a `probability` (0 to 1), or a `number` with its mean and deviation."""

    kind: str
    mean: float
    std: float


def targets(labelled: LabelledCodes) -> list[Target]:
    """How the attributes are labelled, from the rows for training.

    Raises UsageError naming an attribute whose labels are all the same, or missing in a split.
    """
    found = []
    for name, column in zip(labelled.attributes, labelled.values.T, strict=True):
        known = ~column.isnan()
        counts = {split: int((known & rows).sum()) for split, rows in (("train", ~labelled.val), ("val", labelled.val))}
        for split, count in counts.items():
            if count < 2:
                raise UsageError(
                    f"attribute '{name}' has {count} labelled photos in the split {split}; label 2 or more, or leave "
                    "it out"
                )
        values = column[known & ~labelled.val].double()
        std = float(values.std())
        if std == 0:
            raise UsageError(f"attribute '{name}' is {float(values[0]):g} for all training photos; leave it out")
        kind = "probability" if values.min() >= 0 and values.max() <= 1 else "number"
        found.append(Target(kind, float(values.mean()), std))
    return found


def probabilities(values: Tensor, found: list[Target]) -> Tensor:
    """Labels [N, K] as the probabilities [N, K] that the classifier learns; NaN stays NaN.

    Labels within 0 to 1 are probabilities already. A number becomes that of being above the mean if it
    were drawn from a logistic distribution of the same mean and standard deviation: its logit is linear
    in the number, pi / sqrt(3) for one standard deviation.
    """
    columns = [
        column if target.kind == "probability" else torch.sigmoid(LOGIT_SCALE * (column - target.mean) / target.std)
        for column, target in zip(values.T, found, strict=True)
    ]
    return torch.stack(columns, 1)


def held_out_figures(classifier: LatentClassifier, labelled: LabelledCodes, found: list[Target]) -> dict[str, Any]:
    """For each attribute, on the rows for validation: their number, `accuracy` beside that of the larger
    class (`majority`), and `correlation` of logit and label.

    A photo is in the upper class when its label is above one half or, for a number, above the training mean.
    """
    return _figures(_held_out_logits(classifier, labelled), labelled, found)


@torch.no_grad()
def _held_out_logits(classifier: LatentClassifier, labelled: LabelledCodes) -> Tensor:
    """The logits [V, K] of the rows for validation, on the classifier's device."""
    codes = labelled.codes[labelled.val].to(classifier.code_mean.device)
    return torch.cat([classifier(part) for part in codes.split(256)])


def _figures(logits: Tensor, labelled: LabelledCodes, found: list[Target]) -> dict[str, Any]:
    figures = {}
    for k, (name, target) in enumerate(zip(labelled.attributes, found, strict=True)):
        values = labelled.values[labelled.val, k].to(logits.device)
        known = ~values.isnan()
        values, score = values[known], logits[known, k]
        upper = values > (0.5 if target.kind == "probability" else target.mean)
        share = float(upper.float().mean())
        figures[name] = {
            "photos": int(known.sum()),
            "accuracy": round(float(((score > 0) == upper).float().mean()), 4),
            "majority": round(max(share, 1 - share), 4),
            "correlation": round(float(torch.corrcoef(torch.stack([score, values]))[0, 1].nan_to_num()), 4),
        }
    return figures


@dataclass
class ClassifierRun:
    """A resumable run: `train()` leaves the averaged, calibrated LatentClassifier in `ema.model`.

    Raises UsageError when labels and config do not fit each other, or an attribute's labels are no use.
    """

    config: ClassifierConfig
    loop: LoopConfig
    labelled: LabelledCodes
    device: torch.device
    model: LatentClassifier = field(init=False)
    ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        shape, labelled = self.config.classifier, self.labelled
        if shape.attributes != labelled.attributes:
            raise UsageError(
                f"the classifier is for {', '.join(shape.attributes)}, but the labels are "
                f"{', '.join(labelled.attributes)}"
            )
        if labelled.codes.shape[1:] != (shape.num_ws, shape.w_dim):
            raise UsageError(
                f"the classifier takes codes of {shape.num_ws} layers and width {shape.w_dim}, but these have "
                f"{labelled.codes.shape[1]} and {labelled.codes.shape[2]}"
            )
        self.targets = targets(labelled)
        torch.manual_seed(self.loop.seed)
        train = ~labelled.val
        self.codes = labelled.codes[train].to(self.device)
        self.wanted = probabilities(labelled.values, self.targets)[train].to(self.device)
        self.model = LatentClassifier(shape).to(self.device)
        self.model.standardise_codes(self.codes)
        self.ema = Ema(self.model, copy.deepcopy(self.model), self.config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def train(self) -> int:
        """Train to the last step; returns the number of steps done."""
        settings = run_settings(self.config, self.loop)
        settings["codes"] = tensors_fingerprint({"codes": self.codes, "wanted": self.wanted})
        state: dict[str, Stateful] = {
            "config": Unchanged(settings),
            "model": self.model,
            "ema": self.ema,
            "optimizer": self.optimizer,
        }
        done = run_loop(self.loop, state, self.step, self.sample)
        self.averaged.calibrate(self.codes)
        return done

    def held_out(self) -> dict[str, Any]:
        """See `held_out_figures`."""
        return held_out_figures(self.averaged.cpu(), self.labelled, self.targets)

    def describe(self, figures: Mapping[str, Any]) -> str:
        """The figures of one attribute as people read them."""
        return (
            f"accuracy {figures['accuracy']:.3f} (the larger class {figures['majority']:.3f}), correlation "
            f"{figures['correlation']:.3f} on {figures['photos']} held-out photos"
        )

    def export(self, folder: Path, weights: Weights, notes: Mapping[str, Any]) -> Header:
        """Write what was learnt, with the meaning of its labels beside `notes`; see `export_classifier`."""
        meanings = zip(self.labelled.attributes, map(dataclasses.asdict, self.targets), strict=True)
        return export_classifier(self.averaged, folder, weights, {**notes, "targets": dict(meanings)})

    @property
    def averaged(self) -> LatentClassifier:
        """The model with averaged parameters."""
        model = self.ema.model
        assert isinstance(model, LatentClassifier)
        return model

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One optimiser step."""
        indices = batch_indices(len(self.codes), self.loop.batch, self.loop.seed, step).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * cosine_warmup(step, self.loop.steps)
        codes = self.codes[indices]
        noisy = codes + self.config.noise * self.model.code_std * torch.randn_like(codes)
        loss = masked_bce(self.model(noisy), self.wanted[indices])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.model, step)
        return {"bce": loss.detach()}

    @torch.no_grad()
    def sample(self, step: int) -> dict[str, float]:
        """The loss on the rows for validation, and each attribute's accuracy and correlation there."""
        labelled = self.labelled
        logits = _held_out_logits(self.averaged, labelled)
        wanted = probabilities(labelled.values, self.targets)[labelled.val].to(self.device)
        figures = {"val_bce": round(float(masked_bce(logits, wanted)), 5)}
        for name, values in _figures(logits, labelled, self.targets).items():
            figures |= {f"val_{name}_{key}": values[key] for key in ("accuracy", "correlation")}
        return figures


def masked_bce(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits [B, K] where `wanted` [B, K] is not NaN."""
    known = ~wanted.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def export_classifier(
    classifier: LatentClassifier, folder: Path, weights: Weights, notes: Mapping[str, Any] | None = None
) -> Header:
    """Write `classifier` to `folder`/classifier.safetensors, as belonging to the generator of `weights`.

    In float16; with `components` in int8, as the axes are large. Returns the header with the fingerprint. Raises
    WeightsError when a value does not fit float16, OutputError.
    """
    header = weights.part_header("classifier", "latent-classifier", dataclasses.asdict(classifier.config), notes)
    return save_module(folder, classifier, header, int8=classifier.config.components is not None)


__all__ = [
    "LOGIT_SCALE",
    "ClassifierConfig",
    "ClassifierRun",
    "Target",
    "export_classifier",
    "held_out_figures",
    "masked_bce",
    "probabilities",
    "targets",
]
