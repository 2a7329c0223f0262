"""The latent classifier's training: labels as probabilities, missing ones, held-out figures, and resuming."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from stkit_label.network import LatentClassifierConfig
from stkit_label.training import (
    LOGIT_SCALE,
    ClassifierConfig,
    ClassifierRun,
    held_out_figures,
    masked_bce,
    probabilities,
    targets,
)
from torch import Tensor

from stkit.datasets.codes import LabelledCodes
from stkit.errors import StkitError, UsageError
from stkit.training.loop import LoopConfig
from tests.training.resuming import log_lines, require_same_bits

CPU = torch.device("cpu")
CONFIG = ClassifierConfig(
    LatentClassifierConfig(("age", "sex"), 3, 8, widths=(16, 8), embedding=4), learning_rate=3e-3, noise=0.5
)
NAN = float("nan")


def labelled(count: int = 1000, values: Tensor | None = None) -> LabelledCodes:
    codes = torch.randn(count, 3, 8, generator=torch.Generator().manual_seed(0))
    if values is None:
        values = torch.stack([50 + 20 * codes[:, 0, 0], (codes[:, 1, 1] > 0).float()], 1)
        values[::3, 0] = NAN
        values[1::7, 1] = NAN
    return LabelledCodes(tuple(map(str, range(count))), ("age", "sex"), codes, values, torch.arange(count) % 5 == 4)


def make_run(out: Path, steps: int = 1, config: ClassifierConfig = CONFIG, **changes: Any) -> ClassifierRun:
    resume = changes.pop("resume", False)
    return ClassifierRun(config, LoopConfig(out, steps, 64, resume=resume), changes.pop("labelled", labelled()), CPU)


def test_numbers_become_probabilities_and_probabilities_stay() -> None:
    data = labelled()
    age, sex = targets(data)
    train = ~data.val
    known = data.values[train, 0][~data.values[train, 0].isnan()]
    assert (age.kind, sex.kind) == ("number", "probability")
    assert (age.mean, age.std) == (pytest.approx(known.mean().item()), pytest.approx(known.std().item()))
    values = torch.tensor([[age.mean, 0.0], [age.mean + age.std, 0.3], [NAN, 1.0]])
    wanted = probabilities(values, [age, sex])
    assert wanted[0].tolist() == pytest.approx([0.5, 0.0])
    assert torch.logit(wanted[1, 0]).item() == pytest.approx(LOGIT_SCALE, rel=1e-4)
    assert wanted[1, 1].item() == pytest.approx(0.3)
    assert math.isnan(wanted[2, 0]) and wanted[2, 1] == 1


def test_missing_labels_count_for_nothing() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 5.0]], requires_grad=True)
    wanted = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    loss = masked_bce(logits, wanted)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-0.3)) + math.log1p(math.exp(5.0))) / 2, rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad[0, 1] == logits.grad[1, 0] == 0 != logits.grad[0, 0]


def test_planted_attributes_are_learned_and_judged_on_held_out_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path, 200)
    assert run.train() == 200
    data = labelled()
    figures = held_out_figures(run.averaged, data, run.targets)
    assert figures["age"]["photos"] == int((~data.values[data.val, 0].isnan()).sum()) < 200
    assert figures["age"]["correlation"] > 0.85 and figures["age"]["accuracy"] > 0.8
    assert figures["sex"]["accuracy"] > 0.85 > figures["sex"]["majority"] >= 0.5
    scores = run.averaged.scores(data.codes[~data.val])
    assert (scores.std(0) - 1).abs().max() < 1e-3  # calibrated on the rows for training
    last = log_lines(tmp_path)[-1]
    assert last["val_age_correlation"] == figures["age"]["correlation"]
    assert last["val_bce"] < 0.6


def test_validation_rows_teach_nothing(tmp_path: Path) -> None:
    data = labelled()
    spoilt = data.values.clone()
    spoilt[data.val] = 100 - spoilt[data.val]
    runs = [
        make_run(tmp_path / name, 5, labelled=labelled(values=v)) for name, v in (("a", data.values), ("b", spoilt))
    ]
    for run in runs:
        run.train()
    ours, theirs = (run.averaged.state_dict() for run in runs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    require_same_bits(make_run, tmp_path)


def test_resuming_with_other_labels_or_settings_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path).train()
    other = labelled().values.clone()
    other[0, 1] = 1 - other[0, 1]
    with pytest.raises(StkitError, match=r"codes was \w+ and is now"):
        make_run(tmp_path, 2, labelled=labelled(values=other), resume=True).train()
    with pytest.raises(StkitError, match=r"noise was 0.5 and is now 0.1"):
        make_run(tmp_path, 2, dataclasses.replace(CONFIG, noise=0.1), resume=True).train()


def test_labels_that_are_no_use_are_named(tmp_path: Path) -> None:
    values = labelled().values
    constant, missing = values.clone(), values.clone()
    constant[:, 1] = 1
    missing[labelled().val, 0] = NAN
    with pytest.raises(UsageError, match="'sex' is 1 for all training photos"):
        make_run(tmp_path, labelled=labelled(values=constant))
    with pytest.raises(UsageError, match="'age' has 0 labelled photos in the split val"):
        make_run(tmp_path, labelled=labelled(values=missing))
    shape = CONFIG.classifier
    for change, says in (({"attributes": ("age", "x")}, "for age, x, but"), ({"num_ws": 4}, "4 layers and width 8")):
        with pytest.raises(UsageError, match=says):
            make_run(tmp_path, 1, dataclasses.replace(CONFIG, classifier=dataclasses.replace(shape, **change)))
