from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import ImageSet
from stkit.errors import StkitError, UsageError, WeightsError
from stkit.models.discriminator import Discriminator, DiscriminatorConfig
from stkit.models.registry import load_generator
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2
from stkit.photo.images import resize_batch
from stkit.training.augment import AugmentConfig
from stkit.training.generator import AdversarialConfig, GeneratorRun, export_generator, r1_penalty
from stkit.training.loop import LoopConfig
from stkit.weights import find_weights, verify_weights
from tests.training.resuming import log_lines, stop_after

TINY_DISCRIMINATOR = DiscriminatorConfig(16, channel_base=128, channel_max=8)
TINY = AdversarialConfig(
    generator=StyleGAN2Config(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8),
    discriminator=TINY_DISCRIMINATOR,
    d_reg_interval=2,
    ada_images=200,
    augment_p=0.5,
    dtype=torch.float32,
    compile=False,
)


def colours(count: int = 24, red: float = 200, seed: int = 0) -> ImageSet:
    """Plain images of about one colour with a little noise."""
    random = torch.Generator().manual_seed(seed)
    base = torch.tensor([red, 90.0, 60.0])[:, None, None] + 20 * torch.randn(count, 3, 1, 1, generator=random)
    images = base + 10 * torch.randn(count, 3, 16, 16, generator=random)
    return ImageSet(images.clamp(0, 255).byte(), tuple(f"{i}.png" for i in range(count)))


def make_run(out: Path, steps: int = 1, config: AdversarialConfig = TINY, **changes: Any) -> GeneratorRun:
    loop = LoopConfig(**{"out": out, "steps": steps, "batch": 4, "save_seconds": 1e6, **changes})
    return GeneratorRun(config, loop, colours(), torch.device("cpu"))


def tensors(run: GeneratorRun) -> dict[str, Tensor]:
    models = {"g": run.generator, "d": run.discriminator, "ema": run.ema}
    return {f"{name}.{key}": value for name, model in models.items() for key, value in model.state_dict().items()}


def test_a_run_killed_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight = make_run(tmp_path / "straight", 6)
    assert straight.train() == 6
    make_run(tmp_path / "killed", 3).train()
    torch.manual_seed(99)
    resumed = make_run(tmp_path / "killed", 6, resume=True)
    assert resumed.train() == 6

    expected, got = tensors(straight), tensors(resumed)
    assert expected.keys() == got.keys()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    assert straight.controller.p == resumed.controller.p != TINY.augment_p
    log = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [3, 3, 6, 6]
    assert {"g_loss", "d_loss", "r1", "augment_p"} <= log[0].keys()


def test_training_moves_every_part_and_leaves_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    before = {name: value.clone() for name, value in tensors(run).items()}
    run.train()
    still = [name for name, value in tensors(run).items() if torch.equal(value, before[name])]
    assert [name for name in still if "noise_const" not in name] == []
    with Image.open(tmp_path / "samples" / "0000002.png") as grid:
        assert grid.size == (8 * 20 + 4, 4 * 20 + 4)
        assert len(grid.getcolors(1 << 16) or []) > 10


def test_samples_are_always_of_the_same_z(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.sample(1)
    torch.manual_seed(5)
    run.sample(2)
    first, second = ((tmp_path / "samples" / f"000000{step}.png").read_bytes() for step in (1, 2))
    assert first == second


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"r1_gamma": 3.0}, "r1_gamma was None and is now 3.0"),
        ({"augment": AugmentConfig(rotate90=1.0)}, "augment.rotate90 was 0.0 and is now 1.0"),
        (
            {"generator": dataclasses.replace(TINY.generator, channel_max=16)},
            "generator.channel_max was 8 and is now 16",
        ),
    ],
)
def test_resuming_under_another_config_is_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    make_run(tmp_path).train()
    with pytest.raises(StkitError, match="does not fit this configuration") as caught:
        make_run(tmp_path, 2, dataclasses.replace(TINY, **changed), resume=True).train()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_resuming_with_another_batch_is_refused_but_compiling_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    make_run(tmp_path).train()
    with pytest.raises(StkitError, match="batch was 4 and is now 8"):
        make_run(tmp_path, 2, batch=8, resume=True).train()
    assert make_run(tmp_path, 2, dataclasses.replace(TINY, compile=True), resume=True).train() == 2


def linear_discriminator(slope: Tensor) -> Callable[[Tensor, torch.dtype | None], Tensor]:
    return lambda images, dtype: (images * slope).sum((1, 2, 3))


def test_r1_of_a_linear_score_is_the_squared_slope() -> None:
    slope = torch.randn(3, 4, 4)
    penalty = r1_penalty(linear_discriminator(slope), torch.randn(5, 3, 4, 4))  # type: ignore[arg-type]
    torch.testing.assert_close(penalty, slope.square().sum())


def test_r1_matches_finite_differences() -> None:
    torch.manual_seed(0)
    model = Discriminator(dataclasses.replace(TINY_DISCRIMINATOR, mbstd_group_size=1)).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    step = 1e-6
    offsets = step * torch.eye(images[0].numel(), dtype=torch.float64).reshape(-1, 3, 16, 16)
    with torch.no_grad():
        slopes = [(model(image + offsets) - model(image - offsets)) / (2 * step) for image in images]
    expected = torch.stack(slopes).square().sum(1).mean()
    torch.testing.assert_close(r1_penalty(model, images), expected, rtol=1e-4, atol=1e-8)


def test_r1_has_gradients_for_the_discriminator() -> None:
    torch.manual_seed(0)
    model = Discriminator(TINY_DISCRIMINATOR)
    r1_penalty(model, torch.randn(4, 3, 16, 16)).backward()
    gradient = model.blocks[0].conv0.weight.grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor) and gradient.abs().sum() > 0


def test_lazy_penalty_slows_the_optimiser_as_in_the_paper(tmp_path: Path) -> None:
    group = make_run(tmp_path, config=dataclasses.replace(TINY, d_reg_interval=16)).d_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(2e-3 * 16 / 17)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))


def test_the_discriminator_tells_the_data_from_the_samples(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, g_learning_rate=0.0, d_learning_rate=0.01, ada_target=None, augment_p=0.0)
    run = make_run(tmp_path, 25, config)
    first = run.step(0)
    for step in range(1, 25):
        last = run.step(step)
    assert last["d_loss"] < 0.5 * first["d_loss"]
    with torch.no_grad():
        fakes = run.generator(torch.randn(24, 8, generator=torch.Generator().manual_seed(1)))
        reals = colours(seed=1)
        scores = run.discriminator(torch.cat([reals.batch(torch.arange(24), run.device), fakes]))
    assert (scores[:24] > 0).float().mean() > 0.9
    assert (scores[24:] < 0).float().mean() > 0.9


def test_bars_beside_the_picture_are_not_seen(tmp_path: Path) -> None:
    def discriminator_after(rows: slice) -> dict[str, Tensor]:
        images = colours().images.clone()
        images[:, :, rows] = 255 - images[:, :, rows]
        photos = dataclasses.replace(colours(), images=images, output_crop=(0, 0.25, 1, 0.75))
        run = dataclasses.replace(make_run(tmp_path), train_set=photos)
        run.step(0)  # with R1
        return run.discriminator.state_dict()

    plain, bars, picture = (discriminator_after(rows) for rows in (slice(0), slice(4), slice(4, 6)))
    assert all(torch.equal(plain[name], bars[name]) for name in plain)
    assert any(not torch.equal(plain[name], picture[name]) for name in plain)


def test_the_generator_goes_where_the_discriminator_likes_it(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, d_learning_rate=0.0, ada_target=None, augment_p=0.0)
    run = make_run(tmp_path, 1, config)
    losses = [float(run.step(step)["g_loss"]) for step in range(25)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_mixed_codes_switch_once_from_one_w_to_another(tmp_path: Path) -> None:
    def switches(style_mixing: float) -> Tensor:
        run = make_run(tmp_path, config=dataclasses.replace(TINY, style_mixing=style_mixing), batch=64)
        w_plus = run._codes(torch.Generator().manual_seed(0))
        assert w_plus.shape == (64, TINY.generator.num_ws, 8)
        return (w_plus[:, 1:] != w_plus[:, :-1]).any(2).sum(1)

    assert (switches(0.0) == 0).all()
    assert (switches(1.0) == 1).all()
    assert 10 < switches(0.5).sum() < 54


def test_it_starts_from_given_weights(tmp_path: Path) -> None:
    torch.manual_seed(7)
    init = StyleGAN2(TINY.generator).state_dict()
    run = dataclasses.replace(make_run(tmp_path), init=init)
    for name, value in init.items():
        assert torch.equal(run.generator.state_dict()[name], value)
        assert torch.equal(run.ema.model.state_dict()[name], value)
    other = StyleGAN2(dataclasses.replace(TINY.generator, channel_max=4)).state_dict()
    with pytest.raises(WeightsError, match="initial weights do not fit the generator") as caught:
        dataclasses.replace(make_run(tmp_path), init=other)
    assert "\n" not in str(caught.value)


def keeping(out: Path, steps: int, keep: float = 50.0, **changes: Any) -> GeneratorRun:
    """A run from a generator that has learnt nothing yet, with an inverter of its codes."""
    generator = dataclasses.replace(TINY.generator, z_dim=16, w_dim=16)
    sizes = (32, generator.num_ws, generator.num_ws, 16, 2, 16)
    inverter = StyleTransformerConfig(*sizes, mapping_layers=2, depths=(1, 1, 1, 1), widths=(16, 16, 16, 16))
    loop = LoopConfig(**{"out": out, "steps": steps, "batch": 4, "save_seconds": 1e6, **changes})
    config = dataclasses.replace(TINY, generator=generator, keep=keep)
    torch.manual_seed(3)
    parts: dict[str, Any] = {"init": StyleGAN2(generator).state_dict(), "inverter": StyleTransformer(inverter).eval()}
    return GeneratorRun(config, loop, colours(), torch.device("cpu"), **parts, val_set=colours(6, seed=1))


def test_half_of_the_fakes_can_be_reconstructions_that_stay_near_their_photos(tmp_path: Path) -> None:
    run = keeping(tmp_path / "near", 10)
    assert run.inverter is not None
    photos = run.val_set.batch(torch.arange(4), run.device) if run.val_set else torch.empty(0)
    random = run._codes(torch.Generator().manual_seed(0))
    mixed = run._with_inverted(random, photos)
    assert torch.equal(mixed[1::2], random[1::2])
    torch.testing.assert_close(mixed[::2], run.inverter(resize_batch(photos[::2], 32)))

    fixed = [run.inverter.state_dict(), run.generator.mapping.state_dict()]
    before, kept = run.sample(0), [{name: value.clone() for name, value in state.items()} for state in fixed]
    assert run.train() == 10
    assert all(
        torch.equal(was[name], value) for was, now in zip(kept, fixed, strict=True) for name, value in now.items()
    )
    after = log_lines(tmp_path / "near")[-1]
    assert after["val_mse"] < before["val_mse"] and after["val_lpips"] > 0
    free = keeping(tmp_path / "free", 10, keep=0.0)
    free.train()
    assert after["val_mse"] < log_lines(tmp_path / "free")[-1]["val_mse"]
    with Image.open(tmp_path / "near" / "samples" / "0000010.png") as grid:
        assert grid.size == (8 * 20 + 4, 6 * 20 + 4)
        assert grid.getpixel((7 * 20 + 10, 4 * 20 + 10)) == (255, 255, 255)  # of 6 photos no eighth
        assert grid.getpixel((10, 5 * 20 + 10)) != (255, 255, 255)


def test_a_keeping_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight = keeping(tmp_path / "straight", 4)
    straight.train()
    stopped = keeping(tmp_path / "stopped", 4)
    stop_after(stopped, 2)
    assert stopped.train() == 2
    resumed = keeping(tmp_path / "stopped", 4, resume=True)
    assert resumed.train() == 4
    expected, got = tensors(straight), tensors(resumed)
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    with torch.no_grad():
        resumed.inverter.latent_avg.add_(1)  # type: ignore[union-attr]
    with pytest.raises(StkitError, match="inverter was"):
        dataclasses.replace(resumed).train()


def test_bad_configs_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images of 16 px, but the discriminator takes 32 px"):
        dataclasses.replace(TINY, discriminator=DiscriminatorConfig(32))
    with pytest.raises(UsageError, match="half of each process's 1 images are reconstructions"):
        keeping(tmp_path, 1, batch=1)
    with pytest.raises(UsageError, match="batch of 6 is not a multiple of mbstd_group_size 4"):
        make_run(tmp_path, batch=6)


def test_export_makes_weights_that_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(TINY.generator)
    generator.get_parameter("synthesis.convs.0.noise_strength").data.fill_(0.5)
    alignment = AlignmentTemplate("points", 16, ((5.0, 6.0), (10.0, 6.0)))
    header = export_generator(
        generator, tmp_path / "mine", domain="colours", alignment=alignment, licence="CC0-1.0", notes={"steps": 6}
    )
    weights = find_weights(str(tmp_path / "mine"))
    assert verify_weights(weights) == {"generator.safetensors": "ok"}
    assert (weights.domain, weights.fingerprint, weights.alignment) == ("colours", header.fingerprint, alignment)
    assert (weights.header.licence, weights.header.notes) == ("CC0-1.0", {"steps": 6})
    loaded = load_generator(weights)
    assert loaded.config == TINY.generator
    torch.testing.assert_close(loaded.w_avg, generator.compute_w_avg(), atol=1e-3, rtol=1e-3)
    assert (generator.w_avg == 0).all()  # the one that was given stays as it was
    z = torch.randn(2, 8)
    torch.testing.assert_close(loaded(z), generator(z), atol=0.02, rtol=0.02)

    generator.get_parameter("synthesis.const").data.fill_(1e6)
    with pytest.raises(WeightsError, match="synthesis.const holds values that float16 cannot"):
        export_generator(generator, tmp_path / "huge", domain="colours", alignment=alignment, licence="CC0-1.0")
    assert not (tmp_path / "huge").exists()
