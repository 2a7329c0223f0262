from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import ImageSet
from stkit.errors import StkitError, UsageError, WeightsError
from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig, encode_iteratively, load_psp_encoder
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
from stkit.models.stylegan2 import StyleGAN2
from stkit.photo.images import picture_part
from stkit.plugins import load_plugins
from stkit.training.e4e import E4EConfig, E4ELosses, LatentDiscriminator
from stkit.training.export import save_module
from stkit.training.generator import export_generator
from stkit.training.inverter import InverterConfig, InverterRun, comparison_resolution, export_inverter, load_identity
from stkit.training.loop import LoopConfig
from stkit.training.perceptual import zoomed
from stkit.weights import find_weights, load_header, verify_weights
from tests.training.resuming import log_lines, require_same_bits

GENERATOR = StyleGAN2Config(32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=8)
NETWORK = StyleTransformerConfig(
    input_resolution=32,
    num_ws=GENERATOR.num_ws,
    num_queries=GENERATOR.num_ws + 1,
    d_model=16,
    heads=2,
    feedforward=16,
    mapping_layers=2,
    depths=(1, 1, 1, 1),
    widths=(16, 16, 16, 16),
)
TINY = InverterConfig(NETWORK, learning_rate=1e-2, dtype=torch.float32, compile=False)
RIVALS = {name: PSPEncoderConfig.small(name, GENERATOR) for name in ("psp", "e4e", "restyle")}
L2_ALONE = dataclasses.replace(TINY, lpips=0.0, identity=0.0)
TEMPLATE = AlignmentTemplate("points", 128, ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.5)))


def make_generator(seed: int = 0, config: StyleGAN2Config = GENERATOR) -> StyleGAN2:
    torch.manual_seed(seed)
    generator = StyleGAN2(config)
    generator.w_avg.copy_(generator.compute_w_avg(1000))
    return generator


def make_set(count: int = 12, resolution: int = 32, seed: int = 0) -> ImageSet:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    images = nn.functional.interpolate(coarse, size=resolution, mode="bilinear").byte()
    return ImageSet(images, tuple(f"{i}.png" for i in range(count)))


def embed(images: Tensor) -> Tensor:
    """Unit vectors [B, 12] of mean colours."""
    return nn.functional.normalize(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), dim=1)


def make_run(out: Path, steps: int = 1, config: InverterConfig = TINY, **changes: Any) -> InverterRun:
    loop = {"out": out, "steps": steps, "batch": 4, "save_seconds": 1e6, "resume": changes.pop("resume", False)}
    parts = {
        "generator": make_generator(),
        "train_set": make_set(),
        "val_set": make_set(5, seed=1),
        "embedder": embed,
        **changes,
    }
    return InverterRun(config=config, loop=LoopConfig(**loop), device=torch.device("cpu"), **parts)


def tensors(run: InverterRun) -> dict[str, Tensor]:
    models = {"model": run.model, "ema": run.ema}
    return {f"{name}.{key}": value for name, model in models.items() for key, value in model.state_dict().items()}


def test_a_run_stopped_halfway_ends_with_the_same_bits(tmp_path: Path) -> None:
    require_same_bits(functools.partial(make_run, config=dataclasses.replace(TINY, latent=0.5)), tmp_path)


def test_resuming_beside_another_generator_or_with_another_loss_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path).train()
    with pytest.raises(StkitError, match=r"does not fit this configuration: generator was \w+ and is now"):
        make_run(tmp_path, 2, generator=make_generator(1), resume=True).train()
    with pytest.raises(StkitError, match=r"identity was 0.1 and is now 0.5"):
        make_run(tmp_path, 2, dataclasses.replace(TINY, identity=0.5), resume=True).train()


def test_training_moves_the_encoder_and_not_the_generator(tmp_path: Path) -> None:
    generator = make_generator()
    run = make_run(tmp_path, 3, generator=generator)
    before = {name: value.clone() for name, value in tensors(run).items()}
    run.train()
    still = {name.split(".", 1)[1] for name, value in tensors(run).items() if torch.equal(value, before[name])}
    assert still == {"latent_avg", "model.latent_avg"}
    for ours, theirs in ((generator, make_generator()), (run.generator, generator)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    first, last = log_lines(tmp_path)
    assert first.keys() >= {"loss", "mse", "lpips", "identity"} and "latent" not in first
    assert last.keys() == {"step", "val_mse", "val_lpips", "val_identity"}
    with Image.open(tmp_path / "samples" / "0000003.png") as grid:
        assert grid.size == (5 * 36 + 4, 2 * 36 + 4)


def test_training_learns_to_invert(tmp_path: Path) -> None:
    run = make_run(tmp_path, 110, L2_ALONE, embedder=None)
    before = run.sample(0)
    run.train()
    after = run.sample(110)
    assert after.keys() == {"val_mse", "val_lpips"}
    assert after["val_mse"] < 0.7 * before["val_mse"]


def test_a_new_inverter_starts_from_the_generators_mapping_and_mean(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert isinstance(run.model, StyleTransformer)
    assert torch.equal(run.model.latent_avg, run.generator.w_avg)
    assert torch.equal(run.model.queries(), run.generator.mapping(run.model.z))


def test_an_existing_inverter_is_where_training_starts(tmp_path: Path) -> None:
    torch.manual_seed(5)
    existing = StyleTransformer(NETWORK)
    existing.latent_avg.fill_(3.0)
    run = make_run(tmp_path, init=existing.state_dict())
    for model in (run.model, run.ema.model):
        assert all(torch.equal(value, existing.state_dict()[name]) for name, value in model.state_dict().items())
    other = StyleTransformer(dataclasses.replace(NETWORK, feedforward=32))
    with pytest.raises(WeightsError, match="initial weights do not fit the inverter") as caught:
        make_run(tmp_path, init=other.state_dict())
    assert "\n" not in str(caught.value)


def test_the_parts_of_the_loss_add_up(tmp_path: Path) -> None:
    images = make_set().batch(torch.arange(4), torch.device("cpu"))
    for config, parts in (
        (TINY, {"mse": 1.0, "lpips": 0.8, "identity": 0.1}),
        (dataclasses.replace(TINY, lpips=0.0), {"mse": 1.0, "identity": 0.1}),
        (dataclasses.replace(TINY, l2=0.5, identity=0.0), {"mse": 0.5, "lpips": 0.8}),
    ):
        run = make_run(tmp_path, config=config)
        run.model.eval()
        losses = run.objective(images, None)
        assert losses.keys() == {"loss", *parts}
        assert losses["loss"].item() == pytest.approx(
            sum(weight * losses[name].item() for name, weight in parts.items())
        )
        output = run.generator.synthesize(run.model(images))
        assert losses["mse"].item() == pytest.approx((output - images).square().mean().item())
        if "identity" in parts:
            cosine = nn.functional.cosine_similarity(embed(output), embed(images))
            assert losses["identity"].item() == pytest.approx(1 - cosine.mean().item(), abs=1e-6)


def test_latent_is_the_share_of_batches_with_known_codes(tmp_path: Path) -> None:
    run = make_run(tmp_path, 12, dataclasses.replace(L2_ALONE, latent=0.25))
    steps = [run.step(i) for i in range(12)]
    assert [i for i, losses in enumerate(steps) if "latent" in losses] == [3, 7, 11]
    losses = steps[3]
    assert losses["loss"].item() == pytest.approx(losses["mse"].item() + losses["latent"].item())


def test_augment_is_how_often_a_photo_is_changed_inside_its_picture_alone(tmp_path: Path) -> None:
    photos = make_set()
    bars = dataclasses.replace(photos, images=photos.images.clone(), output_crop=(0.0, 0.25, 1.0, 0.75))
    bars.images[:, :, :8] = bars.images[:, :, 24:] = 0
    makes = functools.partial(make_run, tmp_path, train_set=bars)
    plain, never, always = (
        makes(config=dataclasses.replace(L2_ALONE, augment=augment))._batch(0, torch.Generator().manual_seed(0))[0]
        for augment in (0.0, 1e-9, 1.0)
    )
    assert torch.equal(plain, never)
    changed = always - plain
    assert (changed[:, :, 8:24].abs().amax((1, 2, 3)) > 0.01).all() and (changed[:, :, 8:24].abs().mean() < 0.5)
    assert (changed[:, :, :8] == 0).all() and (changed[:, :, 24:] == 0).all()
    assert always.abs().max() <= 1


@pytest.mark.parametrize("rival", [None, *RIVALS])
def test_an_inverter_that_sees_less_than_the_generator_makes_is_judged_by_all_of_it(
    tmp_path: Path, rival: str | None
) -> None:
    config = dataclasses.replace(GENERATOR, img_resolution=64)
    network: StyleTransformerConfig | PSPEncoderConfig
    if rival:
        network = dataclasses.replace(RIVALS[rival], num_ws=config.num_ws)
    else:
        network = dataclasses.replace(NETWORK, num_ws=config.num_ws, num_queries=config.num_ws)
    assert network.input_resolution == 32
    sets = {"train_set": make_set(resolution=64), "val_set": make_set(5, 64, seed=1)}
    run = make_run(
        tmp_path,
        1,
        dataclasses.replace(TINY, inverter=network, latent=1.0),
        generator=make_generator(0, config),
        **sets,
    )
    images, codes = run._batch(0, torch.Generator())
    assert images.shape[-1] == 64 and codes is not None
    assert run.train() == 1
    assert log_lines(tmp_path)[-1]["val_mse"] > 0


@pytest.mark.parametrize(("seen", "made", "compared"), [(64, 128, 128), (256, 1024, 256), (256, 64, 256), (32, 32, 32)])
def test_photos_are_compared_at_the_generators_resolution_up_to_256(seen: int, made: int, compared: int) -> None:
    network = dataclasses.replace(NETWORK, input_resolution=seen)
    assert comparison_resolution(network, StyleGAN2Config(made)) == compared


def test_domains_without_an_identity_network_are_told_apart_by_lite0() -> None:
    domain = load_plugins().domain("cars")
    assert domain.load_embedder(domain.template, torch.device("cpu")) is None
    embedder = load_identity(domain, domain.template, torch.device("cpu"))
    canvas = make_set(3, 64).batch(torch.arange(3), torch.device("cpu")).requires_grad_()
    vectors = embedder(canvas)
    assert vectors.shape == (3, 1280)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    vectors[0].square().mul(torch.arange(1280)).sum().backward()
    assert canvas.grad is not None
    rows = canvas.grad[0].abs().sum((0, 2))
    picture = picture_part(rows[:, None].expand(64, 64), domain.output_crop)
    assert picture.shape[0] == 36 and rows.count_nonzero() == picture[:, 0].count_nonzero() == 36  # never the bars
    faces = load_plugins().domain("faces")
    assert load_identity(faces, faces.template, torch.device("cpu"))(canvas.detach()).shape == (3, 128)


def test_with_zoom_lpips_sees_crops_at_twice_the_resolution(tmp_path: Path) -> None:
    images = torch.rand(9, 3, 64, 64) * 2 - 1
    config = dataclasses.replace(GENERATOR, img_resolution=64)
    network = dataclasses.replace(NETWORK, num_ws=config.num_ws, num_queries=config.num_ws, input_resolution=64)
    parts: dict[str, Any] = {"generator": make_generator(0, config), "train_set": make_set(resolution=64)}
    for zoom in (True, False):
        settings = dataclasses.replace(TINY, inverter=network, zoom=zoom)
        run = make_run(tmp_path, config=settings, val_set=make_set(5, 64, seed=1), **parts)
        run.model.eval()
        output = run.generator.synthesize(run.model(images))
        views = [zoomed(view) if zoom else view for view in (output, images)]
        assert run.objective(images, None)["lpips"].item() == pytest.approx(run.lpips(*views).mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedder": None}, "the identity loss needs a network; give an embedder"),
        ({"config": dataclasses.replace(TINY, latent=1.5)}, "latent 1.5 is not a share"),
        ({"config": dataclasses.replace(TINY, augment=-0.5)}, "augment -0.5 is not a probability"),
        ({"train_set": make_set(resolution=16)}, "the images have 16 px, but they are compared at 32 px"),
        ({"val_set": make_set(resolution=64)}, "the images have 64 px, but they are compared at 32 px"),
        (
            {"config": dataclasses.replace(TINY, inverter=dataclasses.replace(NETWORK, num_ws=6))},
            "num_ws is 6, but the generator needs 8",
        ),
        (
            {"generator": make_generator(0, dataclasses.replace(GENERATOR, w_dim=8, z_dim=8))},
            "width of w is 16, but the generator needs 8",
        ),
        (
            {"generator": make_generator(0, dataclasses.replace(GENERATOR, mapping_layers=3))},
            "it needs mapping_layers 3 and d_model 16",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_run(tmp_path, **changes)


def test_export_writes_half_floats_that_load_strictly(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 2)
    run.train()
    words: dict[str, Any] = {"domain": "faces", "alignment": TEMPLATE, "licence": "CC0-1.0"}
    generator = export_generator(run.generator, tmp_path / "tiny", **words)
    inverter = run.ema.model
    assert isinstance(inverter, StyleTransformer)
    header = export_inverter(
        inverter, tmp_path / "tiny", generator=generator.fingerprint, notes={"val_mse": 0.5}, **words
    )
    assert header == dataclasses.replace(load_header(tmp_path / "tiny" / "inverter.safetensors"), config=header.config)
    assert (header.kind, header.architecture, header.generator) == (
        "inverter",
        "style-transformer",
        generator.fingerprint,
    )
    assert (header.domain, header.alignment, header.licence, header.notes) == (*words.values(), {"val_mse": 0.5})

    weights = find_weights(str(tmp_path / "tiny"))
    assert set(verify_weights(weights).values()) == {"ok"}
    loaded = weights.load(
        "inverter", "style-transformer", lambda c: StyleTransformer(StyleTransformerConfig.from_dict(c))
    )
    assert loaded.config == NETWORK
    counter = "backbone.input_layer.1.num_batches_tracked"
    assert loaded.state_dict()[counter].dtype == torch.int64 and loaded.state_dict()[counter] == 2
    images = make_set().batch(torch.arange(2), torch.device("cpu"))
    torch.testing.assert_close(loaded(images), inverter(images), atol=1e-2, rtol=1e-2)


def test_values_beyond_half_floats_are_not_written(tmp_path: Path) -> None:
    model = StyleTransformer(NETWORK)
    header = export_inverter(model, tmp_path, generator="0" * 64, domain="faces", alignment=TEMPLATE, licence="CC0-1.0")
    model.latent_avg[0] = 1e6
    with pytest.raises(WeightsError, match="latent_avg holds values that float16 cannot"):
        save_module(tmp_path / "other", model, header)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_trains_and_resumes_with_the_same_bits(name: str, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, inverter=RIVALS[name], lpips=0.0)
    quick: dict[str, Any] = {"e4e": E4EConfig(first_share=0.2, last_share=0.6)} if name == "e4e" else {}

    def make(out: Path, steps: int, **changes: Any) -> InverterRun:
        return make_run(out, steps, config, **quick, **changes)

    straight, resumed = require_same_bits(make, tmp_path, 5)
    start = make(tmp_path / "start", 5).model.state_dict()
    changed = {key for key, value in straight.model.state_dict().items() if not torch.equal(value, start[key])}
    assert changed >= {"input_layer.0.weight", "styles.0.linear.weight", f"styles.{GENERATOR.num_ws - 1}.linear.weight"}
    critics = [run.near_w.discriminator.state_dict() for run in (straight, resumed) if run.near_w is not None]
    assert len(critics) == (2 if name == "e4e" else 0)
    assert all(torch.equal(value, critics[1][key]) for key, value in (critics[0] if critics else {}).items())

    export_generator(straight.generator, tmp_path / "out", domain="faces", alignment=TEMPLATE, licence="CC0-1.0")
    fingerprint = find_weights(str(tmp_path / "out")).fingerprint
    model = straight.ema.model
    assert isinstance(model, PSPEncoder)
    export_inverter(
        model, tmp_path / "out", generator=fingerprint, domain="faces", alignment=TEMPLATE, licence="CC0-1.0"
    )
    weights = find_weights(str(tmp_path / "out"))
    assert (weights.own_inverter(), weights.inverters()) == (name, {name: "inverter"})
    images = torch.zeros(1, RIVALS[name].in_channels, 32, 32)
    loaded = load_psp_encoder(weights, RIVALS[name].architecture)
    torch.testing.assert_close(loaded(images), model(images), atol=1e-2, rtol=1e-2)


def test_a_rival_learns_to_invert(tmp_path: Path) -> None:
    run = make_run(tmp_path, 60, dataclasses.replace(L2_ALONE, inverter=RIVALS["restyle"]), embedder=None)
    before = run.sample(0)
    run.train()
    assert run.sample(60)["val_mse"] < 0.8 * before["val_mse"]


def test_e4e_lets_the_offsets_in_stage_by_stage(tmp_path: Path) -> None:
    stages = [E4EConfig().stage(step, 1000, 18) for step in range(1000)]
    assert stages == sorted(stages) and set(stages) == set(range(18))
    assert (stages[99], stages[100], stages[269], stages[270]) == (0, 1, 16, 17)
    run = make_run(tmp_path, 10, dataclasses.replace(L2_ALONE, inverter=RIVALS["e4e"]))
    first, last = run.step(0), run.step(9)
    assert first.keys() == last.keys() == {"loss", "mse", "adversarial", "delta", "discriminator"}
    assert first["delta"] == 0 < last["delta"]


def test_e4e_losses_keep_codes_near_w() -> None:
    near_w = E4ELosses(E4EConfig(), make_generator(), torch.device("cpu"))
    near_w.discriminator.requires_grad_(False)
    codes = torch.zeros(2, 8, 16)
    codes[:, 3] = 1.0  # a distance of 4 from layer 0
    losses = near_w.losses(codes, 7)
    assert losses["delta"] == pytest.approx(4.0)
    expected = nn.functional.softplus(-near_w.discriminator(codes)).mean()
    assert losses["adversarial"] == pytest.approx(float(expected))
    assert near_w.weighted(losses) == pytest.approx(0.1 * float(expected) + 2e-4 * 4.0)
    assert near_w.losses(codes, 0)["delta"] == 0


def test_the_latent_discriminator_learns_to_tell_codes_from_w() -> None:
    torch.manual_seed(0)
    generator = make_generator()
    config = E4EConfig(d_learning_rate=3e-3, r1=0.1)
    near_w = E4ELosses(config, generator, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    for step in range(60):
        fakes = generator.w_avg + torch.randn(16, 8, 16, generator=random) * 3
        near_w.train_discriminator(fakes, 2, step, random)
    with torch.no_grad():
        reals = generator.mapping(torch.randn(64, 16, generator=random))
        fakes = generator.w_avg + torch.randn(64, 16, generator=random) * 3
        assert near_w.discriminator(reals).mean() > near_w.discriminator(fakes).mean() + 1
    assert LatentDiscriminator(16)(torch.zeros(2, 8, 16)).shape == (2, 8)


@pytest.mark.parametrize("changes", [{}, {"input_resolution": 16}, {"input_resolution": 16, "resize": "average"}])
def test_each_pass_of_restyle_is_judged(changes: dict[str, Any], tmp_path: Path) -> None:
    """Each sees what it sees later, resized as the config says."""
    restyle = dataclasses.replace(RIVALS["restyle"], **changes)
    run = make_run(tmp_path, config=dataclasses.replace(L2_ALONE, inverter=restyle))
    run.model.eval()
    images = make_set().batch(torch.arange(4), torch.device("cpu"))
    assert isinstance(run.model, PSPEncoder)
    seen = nn.functional.interpolate(images, size=restyle.input_resolution, mode="bilinear", antialias=True)
    passes = encode_iteratively(run.model, run.generator, seen)
    errors = [(run.generator.synthesize(codes) - images).square().mean().item() for codes in passes]
    assert run.objective(images, None)["mse"].item() == pytest.approx(sum(errors) / 3, rel=1e-4)
