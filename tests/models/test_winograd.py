from __future__ import annotations

import pytest
import torch
from torch import nn

from stkit.models.winograd import WinogradConv2d


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (7, 5), (1, 2)])
def test_it_is_the_convolution(bias: bool, height: int, width: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Conv2d(5, 3, 3, padding=1, bias=bias).requires_grad_(False)
        x = torch.randn(2, 5, height, width)
    fast = WinogradConv2d(conv)(x.contiguous(memory_format=torch.channels_last))
    assert fast.is_contiguous(memory_format=torch.channels_last) or height % 4 or width % 4
    torch.testing.assert_close(fast, conv(x), atol=2e-5, rtol=0)


def test_products_of_many_channels_stay_accurate() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Conv2d(128, 128, 3, padding=1, bias=False).requires_grad_(False)
        x = torch.randn(1, 128, 16, 16)
    exact = nn.functional.conv2d(x.double(), conv.weight.double(), padding=1)
    assert (WinogradConv2d(conv)(x) - exact).abs().max() < 5e-5
