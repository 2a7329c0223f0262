"""MobileStyleGAN's operations beside their plain twins: values, gradients, half precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stkit.models import mobile_stylegan_ops as ops
from stkit.models.mobile_stylegan import MobileStyleGAN
from stkit.models.shapes import MobileStyleGANConfig

Arguments = list[Tensor]
Operation = Callable[..., Tensor]


def draw(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Arguments:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random, dtype=dtype).requires_grad_() for shape in shapes]


def separable_arguments(batch: int, noises: int, size: tuple[int, int] = (5, 3)) -> Arguments:
    return draw((batch, 4, *size), (batch, 4), (4, 1, 3, 3), (6, 4, 1, 1), (6,), (noises, 1, *size))


def gradients(operation: Operation, arguments: Arguments) -> Arguments:
    y = operation(*arguments)
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * towards).sum(), [x for x in arguments if x.requires_grad])]


@pytest.mark.parametrize(("batch", "noises"), [(1, 1), (3, 1), (3, 3)])
def test_separable_and_its_gradients_equal_the_plain_ones(batch: int, noises: int) -> None:
    arguments = separable_arguments(batch, noises)
    torch.testing.assert_close(gradients(ops.separable, arguments), gradients(ops.separable_ref, arguments))
    assert torch.autograd.gradcheck(ops.separable, arguments)


def test_noise_may_be_left_out() -> None:
    x, style, depthwise, pointwise, bias, _ = separable_arguments(2, 1)
    arguments = (x, style, depthwise, pointwise, bias, None)
    torch.testing.assert_close(ops.separable(*arguments), ops.separable_ref(*arguments))


@pytest.mark.parametrize("wanted", range(6))
def test_one_gradient_alone(wanted: int) -> None:
    arguments = [x.detach().requires_grad_(i == wanted) for i, x in enumerate(separable_arguments(1, 1))]
    torch.testing.assert_close(gradients(ops.separable, arguments), gradients(ops.separable_ref, arguments))


@pytest.mark.parametrize("batch", [1, 2])
def test_upsampling_and_its_gradients_equal_the_plain_ones(batch: int) -> None:
    arguments = draw((batch, 12, 2, 5), (batch, 12))
    torch.testing.assert_close(gradients(ops.upsample, arguments), gradients(ops.upsample_ref, arguments))
    assert torch.autograd.gradcheck(ops.upsample, arguments)


def test_a_style_of_zero_has_a_gradient() -> None:
    arguments = separable_arguments(1, 1)
    arguments[1] = torch.zeros_like(arguments[1]).requires_grad_()
    torch.testing.assert_close(gradients(ops.separable, arguments), gradients(ops.separable_ref, arguments))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels", [(16, 8), (8, 4, 12), (4, 20, 8, 4)])
@pytest.mark.parametrize("half", [False, True])
def test_a_network_and_its_gradients_equal_the_plain_ones(batch: int, channels: tuple[int, ...], half: bool) -> None:
    torch.manual_seed(0)
    network = MobileStyleGAN(MobileStyleGANConfig(8, 8, 2, channels)).synthesis
    for name, value in network.named_parameters():
        torch.nn.init.normal_(value) if name.endswith(("strength", "bias")) else None
    resolution = network.img_resolution // 2 if half else None
    w_plus = torch.randn(batch, 3 * len(channels) - 1, 8, requires_grad=True)
    results = []
    for ref in (False, True):
        image = network(network.styles(w_plus), "const", torch.float32, resolution, ref=ref)
        inputs = [w_plus, *network.parameters()]
        results.append([image, *torch.autograd.grad(image.sin().sum(), inputs)])
    torch.testing.assert_close(*results, atol=5e-4, rtol=5e-4)  # the order of float32 sums is the processor's


@pytest.mark.parametrize("batch", [1, 2])
def test_bfloat16_gradients_are_close(batch: int) -> None:
    exact = separable_arguments(batch, 1, (8, 8))
    near = [x.detach().to(torch.float32 if i else torch.bfloat16).requires_grad_() for i, x in enumerate(exact)]
    for want, got in zip(gradients(ops.separable_ref, exact), gradients(ops.separable, near), strict=True):
        assert float((got - want).abs().mean() / want.abs().mean()) < 0.02


@pytest.mark.filterwarnings("default:.*should not be instantiated:DeprecationWarning")  # torch's own doing
def test_torch_compile_takes_them() -> None:
    arguments = separable_arguments(2, 1)
    compiled = torch.compile(ops.separable, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, arguments), gradients(ops.separable_ref, arguments))
