from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from stkit.training.augment import AugmentConfig, AugmentController, apply_augmentation, draw_augmentation

CHANGES = tuple(field.name for field in dataclasses.fields(AugmentConfig) if not field.name.endswith(("_std", "_max")))
NOTHING = AugmentConfig(**dict.fromkeys(CHANGES, 0.0))
SIDE = 16


def only(**changes: float) -> AugmentConfig:
    return dataclasses.replace(NOTHING, **changes)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 32) -> Tensor:
    """Smooth images, so that resampling does not blur them away."""
    coarse = torch.rand(count, 3, 4, 4, generator=random(9)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic")


def augment(images: Tensor, config: AugmentConfig, p: float = 1.0, seed: int = 0) -> Tensor:
    return apply_augmentation(images, *draw_augmentation(config, p, len(images), SIDE, random(seed)))


def luma(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True)


def test_without_probability_or_without_changes_images_stay_exactly_the_same() -> None:
    images = photos()
    everything = dataclasses.replace(AugmentConfig(), rotate90=1.0)
    assert torch.equal(augment(images, everything, p=0.0), images)
    assert torch.equal(augment(images, NOTHING, p=1.0), images)


def test_a_function_of_the_generator_alone() -> None:
    images = photos()
    torch.manual_seed(1)
    first = augment(images, AugmentConfig(), 0.5)
    torch.manual_seed(2)
    assert torch.equal(augment(images, AugmentConfig(), 0.5), first)
    assert not torch.equal(augment(images, AugmentConfig(), 0.5, seed=1), first)


def test_probability_is_the_share_of_changed_images() -> None:
    images = photos(2000)
    config = only(brightness=1.0)
    changed = (augment(images, config, p=0.3) != images).flatten(1).any(1).float().mean()
    assert changed.item() == pytest.approx(0.3, abs=0.04)
    halved = (augment(images, only(brightness=0.5), p=0.3) != images).flatten(1).any(1).float().mean()
    assert halved.item() == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_differentiable_and_moves_something(name: str) -> None:
    images = photos().requires_grad_()
    changed = augment(images, only(**{name: 1.0}))
    assert not torch.equal(changed, images)
    (gradient,) = torch.autograd.grad(changed.square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_gradients_match_finite_differences() -> None:
    images = torch.rand(2, 3, 6, 6, generator=random(), dtype=torch.float64).requires_grad_()
    geometry, colour = draw_augmentation(AugmentConfig(), 1.0, 2, 6, random(3))
    assert torch.autograd.gradcheck(apply_augmentation, (images, geometry.double(), colour.double()))


def closest(changed: Tensor, candidates: list[Tensor]) -> list[int]:
    """Which candidate each image is, to rounding."""
    errors = torch.stack([(changed - candidate).abs().amax((1, 2, 3)) for candidate in candidates])
    assert errors.amin(0).max() < 1e-4
    return errors.argmin(0).tolist()


def test_xflip_mirrors_half_of_the_images() -> None:
    images = photos()
    found = closest(augment(images, only(xflip=1.0)), [images, images.flip(3)])
    assert set(found) == {0, 1}
    assert 6 < sum(found) < 26


def test_rotate90_turns_by_quarters() -> None:
    images = photos()
    found = closest(augment(images, only(rotate90=1.0)), [images.rot90(k, (2, 3)) for k in range(4)])
    assert set(found) == {0, 1, 2, 3}


def test_integer_translation_moves_whole_pixels_and_mirrors_the_edge() -> None:
    images = photos()
    padded = torch.cat([images[:, :, :2].flip(2), images, images[:, :, -2:].flip(2)], 2)  # mirrored about the edge
    padded = torch.cat([padded[..., :2].flip(3), padded, padded[..., -2:].flip(3)], 3)
    shifts = [padded[:, :, y : y + SIDE, x : x + SIDE] for y in range(5) for x in range(5)]
    assert len(set(closest(augment(images, only(translate_int=1.0)), shifts))) > 10  # 2 px each way at 16 px


def test_geometric_changes_of_each_kind() -> None:
    def linear(**changes: float) -> Tensor:
        geometry, colour = draw_augmentation(only(**changes), 1.0, 200, SIDE, random())
        assert (colour == torch.eye(4)).all()
        return geometry[:, :2]

    eye = torch.eye(2).expand(200, 2, 2)
    scale = linear(scale=1.0)
    torch.testing.assert_close(scale[:, :, :2], eye * scale[:, :1, :1])
    assert scale[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.2)

    stretch = linear(anisotropy=1.0)[:, :, :2]
    torch.testing.assert_close(torch.linalg.det(stretch), torch.ones(200))
    assert stretch[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.2)
    assert (stretch[:, 0, 1] == 0).all()

    turn = linear(rotate=1.0)[:, :, :2]
    torch.testing.assert_close(turn @ turn.transpose(1, 2), eye)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(200))
    assert torch.atan2(turn[:, 1, 0], turn[:, 0, 0]).std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.2)

    shift = linear(translate=1.0)
    torch.testing.assert_close(shift[:, :, :2], eye)
    assert shift[:, :, 2].std().item() == pytest.approx(2 * 0.125, rel=0.2)


def test_rotation_happens_with_probability_p() -> None:
    geometry, _ = draw_augmentation(only(rotate=1.0), 0.4, 4000, SIDE, random())
    turned = (geometry != torch.eye(3)).flatten(1).any(1).float().mean()
    assert turned.item() == pytest.approx(0.4, abs=0.03)


def test_a_rotation_turns_the_picture_about_its_centre() -> None:
    image = torch.zeros(1, 3, 33, 33)
    image[:, :, 16, 26] = 1  # ten pixels right of the centre
    geometry = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    turned = apply_augmentation(image, geometry, torch.eye(4)[None])
    expected = torch.zeros(1, 3, 33, 33)
    expected[:, :, 6, 16] = 1
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_brightness_adds_and_contrast_multiplies() -> None:
    images = photos()
    difference = augment(images, only(brightness=1.0)) - images
    assert difference.flatten(1).std(1).max() < 1e-5
    assert difference[:, 0, 0, 0].std().item() == pytest.approx(0.2, rel=0.4)
    ratio = augment(images, only(contrast=1.0)) / images
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    assert ratio[:, 0, 0, 0].log2().std().item() == pytest.approx(0.5, rel=0.4)


def test_luma_flip_negates_brightness_and_keeps_colour() -> None:
    images = photos()
    flipped = images - 2 * luma(images)
    found = closest(augment(images, only(luma_flip=1.0)), [images, flipped])
    assert set(found) == {0, 1}
    torch.testing.assert_close(luma(flipped), -luma(images))


def test_hue_keeps_luma_and_vividness() -> None:
    images = photos()
    changed = augment(images, only(hue=1.0))
    torch.testing.assert_close(luma(changed), luma(images))
    torch.testing.assert_close(changed.square().sum(1), images.square().sum(1))
    greys = luma(images).expand(-1, 3, -1, -1)
    torch.testing.assert_close(augment(greys, only(hue=1.0)), greys)


def test_saturation_scales_the_distance_from_grey() -> None:
    images = photos()
    changed = augment(images, only(saturation=1.0))
    torch.testing.assert_close(luma(changed), luma(images))
    ratio = (changed - luma(changed)).flatten(1).norm(dim=1) / (images - luma(images)).flatten(1).norm(dim=1)
    assert ratio.log2().std().item() == pytest.approx(1, rel=0.4)
    torch.testing.assert_close(changed - luma(changed), (images - luma(images)) * ratio[:, None, None, None])


def test_upright_domains_are_not_turned_by_quarters_unless_chosen() -> None:
    assert AugmentConfig().rotate90 == 0
    assert [name for name in CHANGES if getattr(AugmentConfig(), name) != 1] == ["rotate90"]


def test_controller_follows_the_sign_of_the_real_scores() -> None:
    controller = AugmentController(target=0.6, images=1000)
    for _ in range(3):
        controller.update(torch.ones(10))
    assert controller.p == 0  # not before the fourth step
    controller.update(torch.ones(10))
    assert controller.p == pytest.approx(0.04)  # 40 images of 1000
    for _ in range(8):
        controller.update(torch.ones(10))
    assert controller.p == pytest.approx(0.12)
    for _ in range(4):
        controller.update(torch.tensor([1.0, -1.0]))  # a mean of 0 is below the target
    assert controller.p == pytest.approx(0.112)


def test_controller_stays_between_none_and_always() -> None:
    controller = AugmentController(target=0.6, images=20)
    for _ in range(12):
        controller.update(torch.ones(10))
    assert controller.p == 1
    for _ in range(12):
        controller.update(-torch.ones(10))
    assert controller.p == 0


def test_controller_without_a_target_keeps_p() -> None:
    controller = AugmentController(target=None, p=0.2)
    for _ in range(12):
        controller.update(torch.ones(10))
    assert controller.p == 0.2


def test_controller_goes_on_from_its_state() -> None:
    one, other = (AugmentController(target=0.6, images=1000) for _ in range(2))
    for _ in range(6):
        one.update(torch.ones(10))
    other.load_state_dict(one.state_dict())
    for controller in (one, other):
        for _ in range(2):
            controller.update(torch.ones(10))
    assert one.p == other.p == pytest.approx(0.08)
