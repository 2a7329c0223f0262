"""The reference block's training: its losses, what it learns on planted attributes, and resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from stkit_label.network import LatentClassifier, LatentClassifierConfig
from stkit_reference.network import ReferenceBlock, ReferenceBlockConfig
from stkit_reference.training import ReferenceConfig, ReferenceRun, reference_losses, transfer_figures
from torch import Tensor

from stkit.errors import StkitError, UnknownNameError, UsageError
from stkit.training.loop import LoopConfig
from tests.training.resuming import require_same_bits

NAMES = ("age", "smile", "yaw")
CPU = torch.device("cpu")
BLOCK = ReferenceConfig(ReferenceBlockConfig(("age", "yaw"), 4, 16, heads=2, feedforward=32), learning_rate=3e-3)


def planted_classifier() -> LatentClassifier:
    """A classifier that reads one direction in each of three layers of codes [N, 4, 16], one number an embedding."""
    torch.manual_seed(2)
    classifier = LatentClassifier(LatentClassifierConfig(NAMES, 4, 16, widths=(), embedding=1)).eval()
    with torch.no_grad():
        directions = torch.zeros(3, 4, 16)
        for k in range(3):
            directions[k, k + 1] = torch.nn.functional.normalize(torch.randn(16), dim=0)
        classifier.embeddings.weight.copy_(directions.flatten(1))
        classifier.embeddings.bias.zero_()
        classifier.head_weight.fill_(2.0)
    classifier.standardise_codes(codes(2000))
    classifier.calibrate(codes(2000))
    return classifier.requires_grad_(False)


def codes(count: int, seed: int = 0) -> Tensor:
    return 3 + torch.randn(count, 4, 16, generator=torch.Generator().manual_seed(seed))


def make_run(out: Path, steps: int = 1, config: ReferenceConfig = BLOCK, **changes: Any) -> ReferenceRun:
    loop = LoopConfig(out, steps, changes.pop("batch", 32), save_seconds=1e6, resume=changes.pop("resume", False))
    parts: dict[str, Any] = {"classifier": planted_classifier(), "train_codes": codes(400), "val_codes": codes(60, 1)}
    return ReferenceRun(config, loop=loop, device=CPU, **{**parts, **changes})


def test_a_new_block_changes_nothing() -> None:
    block = ReferenceBlock(ReferenceBlockConfig(("age",), 4, 16, heads=2, feedforward=32))
    source = codes(3)
    assert torch.equal(block(source, codes(3, 1), torch.zeros(3, dtype=torch.long)), source)


def test_the_three_losses_are_the_papers() -> None:
    classifier = planted_classifier()
    source, reference, edited = codes(5), codes(5, 1), codes(5, 2)
    index = torch.tensor([0, 1, 2, 0, 1])
    losses = reference_losses(classifier, source, reference, edited, index)
    s, r, e = (classifier.embed(c)[..., 0] / classifier.embedding_std for c in (source, reference, edited))
    own, others = [], []
    for row, k in enumerate(index.tolist()):
        own.append((e[row, k] - r[row, k]) ** 2)
        others += [(e[row, j] - s[row, j]) ** 2 for j in range(3) if j != k]
    assert losses["attribute"].item() == pytest.approx(torch.stack(own).mean().item(), rel=1e-5)
    assert losses["others"].item() == pytest.approx(torch.stack(others).mean().item(), rel=1e-5)
    spread = classifier.code_std.item()
    assert losses["code"].item() == pytest.approx((edited - source).square().mean().item() / spread**2, rel=1e-5)
    at_source = reference_losses(classifier, source, reference, source, index)
    assert at_source["others"].item() == at_source["code"].item() == 0 < at_source["attribute"].item()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ReferenceRun:
    run = make_run(tmp_path_factory.mktemp("reference"), 300, batch=64, train_codes=codes(4000))
    run.train()
    return run


def test_training_lowers_the_losses_and_carries_planted_attributes_over(trained: ReferenceRun) -> None:
    figures = transfer_figures(trained.averaged, trained.classifier, codes(200, 5))
    assert figures.keys() == {"age", "yaw"}
    for values in figures.values():
        assert values["transfer"] > 0.7
        assert values["drift"] < 0.15
    source, reference, index = codes(200, 5), codes(200, 6), torch.zeros(200, dtype=torch.long)
    before = reference_losses(trained.classifier, source, reference, source, index)
    edited = trained.averaged(source, reference, index)
    after = reference_losses(trained.classifier, source, reference, edited, index)
    assert sum(after.values()) < 0.3 * sum(before.values())


def test_the_attribute_is_chosen(trained: ReferenceRun) -> None:
    source, reference = codes(100, 6), codes(100, 7)
    scores = trained.classifier.scores
    way = scores(reference) - scores(source)
    for i, k in enumerate((0, 2)):
        moved = scores(trained.averaged(source, reference, torch.full((100,), i))) - scores(source)
        share = (moved * way).sum(0) / way.square().sum(0)
        assert share[k] > 0.6
        assert share[[j for j in range(3) if j != k]].abs().max() < 0.1


def test_a_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    require_same_bits(make_run, tmp_path)


def test_resuming_with_another_classifier_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path).train()
    other = planted_classifier()
    other.head_bias.data.add_(1)
    with pytest.raises(StkitError, match=r"classifier was \w+ and is now"):
        make_run(tmp_path, 2, classifier=other, resume=True).train()


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"batch": 5}, UsageError, "batch 5 has no halves"),
        ({"val_codes": codes(1)}, UsageError, "two photos each"),
        (
            {"config": dataclasses.replace(BLOCK, block=dataclasses.replace(BLOCK.block, attributes=("glasses",)))},
            UnknownNameError,
            "no attribute named 'glasses'",
        ),
        (
            {"config": dataclasses.replace(BLOCK, block=dataclasses.replace(BLOCK.block, num_ws=5))},
            UsageError,
            "5 layers and width 16, but the classifier for 4 and 16",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        make_run(tmp_path, **changes)
