from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stkit.errors import UsageError
from stkit.models import ops
from stkit.models.discriminator import Discriminator, DiscriminatorConfig, append_minibatch_stddev

TINY = DiscriminatorConfig(img_resolution=16, channel_base=128, channel_max=16)


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 3])
def test_downsampling_convolution_is_the_papers_filter_then_a_strided_convolution(size: int) -> None:
    x, weight, bias = seeded(2, 3, 8, 8), seeded(5, 3, size, size), seeded(5)
    pad = (size - 1) // 2 + 1  # of the convolution and of the filter
    expected = F.conv2d(ops.upfirdn2d_ref(x, pad=(pad, pad)), weight, bias, stride=2)
    torch.testing.assert_close(ops.downsample_conv2d(x, weight, bias), expected)


def test_downsampling_keeps_flat_images_away_from_the_edges() -> None:
    small = ops.downsample2d(torch.ones(1, 2, 8, 8))
    torch.testing.assert_close(small[:, :, 1:-1, 1:-1], torch.ones(1, 2, 2, 2))


def test_equalised_convolution_keeps_unit_variance_at_any_width() -> None:
    torch.manual_seed(0)
    for channels in (8, 128):
        y = ops.EqualConv2d(channels, 64, 3)(torch.randn(4, channels, 16, 16))[:, :, 1:-1, 1:-1]
        assert y.var().item() == pytest.approx(1, abs=0.15)


def test_full_size_has_the_published_number_of_parameters() -> None:
    model = Discriminator(DiscriminatorConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 29_012_513


def test_scores_are_float32_in_any_dtype_and_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model, images = Discriminator(TINY), seeded(4, 3, 16, 16)
    scores = model(images)
    assert scores.shape == (4,)
    half = model(images, torch.bfloat16)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, scores, atol=0.05, rtol=0.05)
    assert not torch.equal(half, scores)
    scores.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_minibatch_stddev_by_hand() -> None:
    x = torch.zeros(4, 2, 1, 1)
    x[0], x[2] = 1.0, -1.0  # rows 0 and 2 are one group, rows 1 and 3 the other
    extra = append_minibatch_stddev(x, group_size=2)[:, 2, 0, 0]
    torch.testing.assert_close(extra, torch.tensor([1.0, 0.0, 1.0, 0.0]), atol=2e-4, rtol=0)


def test_minibatch_stddev_of_separate_channel_groups_and_of_a_small_batch() -> None:
    x = torch.zeros(2, 4, 3, 3)
    x[0, 2:] = 2.0
    y = append_minibatch_stddev(x, group_size=4, num_channels=2)
    assert y.shape == (2, 6, 3, 3)
    torch.testing.assert_close(y[:, 4], torch.zeros(2, 3, 3), atol=2e-4, rtol=0)
    torch.testing.assert_close(y[:, 5], torch.ones(2, 3, 3))


def test_a_score_sees_that_the_batch_has_no_variety() -> None:
    torch.manual_seed(0)
    model, images = Discriminator(TINY), seeded(4, 3, 16, 16)
    assert not torch.allclose(model(images)[0], model(images[:1].repeat(4, 1, 1, 1))[0], atol=1e-4)


def test_bad_shapes_are_one_line() -> None:
    with pytest.raises(UsageError, match="img_resolution 48 is not a power of two"):
        DiscriminatorConfig(img_resolution=48)
    with pytest.raises(UsageError, match="mbstd_num_channels 3 must divide"):
        DiscriminatorConfig(mbstd_num_channels=3)
    with pytest.raises(UsageError, match="a batch of 6 is not a multiple of mbstd_group_size 4"):
        Discriminator(TINY)(torch.zeros(6, 3, 16, 16))
