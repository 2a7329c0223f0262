"""StyleGAN2 generators of every family, from files written as the projects write them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from stkit.checkpoints.importing import describe
from stkit.checkpoints.nvidia import export_nvidia_generator, infer_nvidia_generator, nvidia_layout
from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.recognise import open_checkpoint
from stkit.checkpoints.rosinality import infer_rosinality_generator, rosinality_layout
from stkit.checkpoints.stored import StoredTensor, as_tensor
from stkit.errors import WeightsError
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2 import StyleGAN2
from tests.checkpoints.writers import (
    GENERATOR,
    make_generator,
    rosinality_state,
    write_framework,
    write_nvidia,
    write_rosinality,
    write_tf,
)
from tests.goldens import load_golden


def write_nvidia_state(path: Path, generator: StyleGAN2) -> Path:
    torch.save(export_nvidia_generator(generator.state_dict()), path)
    return path


def write_nvidia_safetensors(path: Path, generator: StyleGAN2) -> Path:
    safetensors.torch.save_file(export_nvidia_generator(generator.state_dict()), path)
    return path


def write_legacy(path: Path, generator: StyleGAN2) -> Path:
    content = torch.load(write_rosinality(path, generator), weights_only=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


WRITERS = {
    "rosinality": write_rosinality,
    "rosinality before torch 1.6": write_legacy,
    "NVIDIA pickle": write_nvidia,
    "NVIDIA state": write_nvidia_state,
    "NVIDIA state as safetensors": write_nvidia_safetensors,
    "TensorFlow": write_tf,
}
CONFIGS = [
    GENERATOR,
    StyleGAN2Config(32, 16, 16, mapping_layers=2, channel_base=512, channel_max=16),  # one width for all
    StyleGAN2Config(16, 16, 32, mapping_layers=8, channel_base=128, channel_max=16),
]


def converted(path: Path) -> StyleGAN2:
    """The generator of a checkpoint, as its own configuration builds it."""
    _, found = open_checkpoint(path)
    part = found.parts[0]
    assert (part.kind, part.architecture) == ("generator", "stylegan2")
    generator = StyleGAN2(StyleGAN2Config(**part.config))
    generator.load_state_dict(part.convert())
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_every_tensor_arrives(writer: str, config: StyleGAN2Config, tmp_path: Path) -> None:
    generator = make_generator(config=config)
    copy = converted(WRITERS[writer](tmp_path / "model.bin", generator))
    assert [copy.config.channels(size) for size in config.block_resolutions] == [
        config.channels(size) for size in config.block_resolutions
    ]
    for name, value in copy.state_dict().items():
        # TensorFlow's files hold the style biases less 1, which rounds.
        tolerance = 1e-6 if writer == "TensorFlow" else 0
        torch.testing.assert_close(value, generator.state_dict()[name], atol=tolerance, rtol=0, msg=name)


class NewNumPys:
    """An array as NumPy 2.5 pickles it."""

    def __init__(self, *more: object) -> None:
        self.more = more

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = np.arange(6, dtype=np.float32)
        make: Any = np._core.numeric._frombuffer  # type: ignore[attr-defined]
        return make, (numbers.tobytes(), numbers.dtype, (3, 2), *self.more)


def test_arrays_of_new_numpys(tmp_path: Path) -> None:
    arrays = [NewNumPys("C"), NewNumPys("C", None), NewNumPys("K", (1, 0))]
    (tmp_path / "arrays.pkl").write_bytes(pickle.dumps(arrays, 5))
    read = [as_tensor(one).tolist() for one in read_checkpoint(tmp_path / "arrays.pkl").content]
    assert read == [[[0, 1], [2, 3], [4, 5]]] * 2 + [[[0, 2, 4], [1, 3, 5]]]
    for wrong in ((0, 0), (1,), ("a", 0), 3):
        (tmp_path / "wrong.pkl").write_bytes(pickle.dumps(NewNumPys("K", wrong)))
        assert not isinstance(read_checkpoint(tmp_path / "wrong.pkl").content, StoredTensor)


def test_the_golden_checkpoint_as_a_file(tmp_path: Path) -> None:
    golden = load_golden("stylegan2_generator_64")
    torch.save({"g_ema": golden.state(), "latent_avg": golden.latent_avg}, tmp_path / "g.pt")
    generator = converted(tmp_path / "g.pt")
    with torch.inference_mode():
        assert golden.error("image", generator.synthesize(golden.inputs["w_plus"])) <= 2e-4
        w_plus = generator.map(golden.inputs["z"][:2], truncation_psi=0.7)
        assert golden.error("image_truncated", generator.synthesize(w_plus)) <= 2e-4


def test_official_sizes_are_inferred() -> None:
    """Channel tables of the published generators: rosinality's multipliers 1 and 2, NVIDIA's paper256 and auto."""
    for config in (
        StyleGAN2Config(1024),
        StyleGAN2Config(256, channel_base=16384),
        StyleGAN2Config(256, channel_base=32768),
        StyleGAN2Config(32, mapping_layers=2, channel_base=16384),
    ):
        with torch.device("meta"):
            shapes = {name: tuple(v.shape) for name, v in StyleGAN2(config).state_dict().items()}
        for layout, infer in (
            (nvidia_layout, infer_nvidia_generator),
            (rosinality_layout, infer_rosinality_generator),
        ):
            state = {entry.key: torch.empty(entry.shape, device="meta") for entry in layout(shapes).values()}
            found = infer(state)
            assert found.num_ws == config.num_ws
            assert found.mapping_layers == config.mapping_layers
            for size in config.block_resolutions:
                assert found.channels(size) == config.channels(size)


def test_as_trained_files_take_the_average_from_the_mapping_network(tmp_path: Path) -> None:
    generator = make_generator()
    copy = converted(write_rosinality(tmp_path / "a.pt", generator, trained=True))
    expected = generator.compute_w_avg(200_000)
    spread = generator.mapping(torch.randn(1000, 24)).std(0)
    assert ((copy.w_avg - expected).abs() < 0.06 * spread + 1e-6).all()
    assert "as trained" in open_checkpoint(tmp_path / "a.pt")[1].what


def test_latent_avg_with_a_row_a_style(tmp_path: Path) -> None:
    generator = make_generator()
    rows = generator.w_avg.expand(6, -1).clone()
    torch.save({"g_ema": rosinality_state(generator), "latent_avg": rows}, tmp_path / "a.pt")
    assert torch.equal(converted(tmp_path / "a.pt").w_avg, generator.w_avg)


def test_noise_that_a_file_lacks_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    state = {k: v for k, v in rosinality_state(make_generator()).items() if not k.startswith("noises.")}
    torch.save({"g_ema": state}, tmp_path / "a.pt")
    first, second = (converted(tmp_path / "a.pt").synthesis.convs[2].get_buffer("noise_const") for _ in range(2))
    assert torch.equal(first, second)
    assert 0.8 < float(first.std()) < 1.2


def break_state(change: str) -> dict[str, torch.Tensor]:
    state = rosinality_state(make_generator())
    match change:
        case "missing":
            del state["to_rgbs.1.bias"], state["convs.1.activate.bias"]
        case "unexpected":
            state["convs.0.extra"] = torch.zeros(1)
        case "shape":
            state["convs.2.conv.modulation.bias"] = torch.zeros(7)
        case "filter":
            state["to_rgbs.0.upsample.kernel"] = torch.full((4, 4), 0.25)
        case "noises":
            del state["noises.noise_3"]
        case "renamed":
            state = {k.replace("modulation", "affine"): v for k, v in state.items()}
    return state


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", ["2 missing", "to_rgbs.1.bias", "convs.1.activate.bias", "incomplete"]),
        ("unexpected", ["1 unexpected", "convs.0.extra", "additions"]),
        ("shape", ["1 of another shape", "convs.2.conv.modulation.bias (7,) and not (32,)", "channels"]),
        ("filter", ["to_rgbs.0.upsample.kernel", "1-3-3-1"]),
        ("noises", ["1 missing: noises.noise_3"]),
        ("renamed", ["16 missing", "16 unexpected", ", ...", "renamed"]),
    ],
)
def test_differences_are_readable(change: str, says: list[str], tmp_path: Path) -> None:
    torch.save({"g_ema": break_state(change)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(tmp_path / "a.pt")[1].parts[0].convert()
    message = str(caught.value)
    assert all(words in message for words in says), message
    assert "\n" not in message
    assert message.count("affine") <= 10


@pytest.mark.parametrize("write", [write_nvidia, write_tf])
def test_class_conditional_models_are_refused_by_name(write: Callable[..., Path], tmp_path: Path) -> None:
    if write is write_nvidia:
        path = write_nvidia(tmp_path / "a.pkl", make_generator(), extra={"mapping.embed.weight": torch.zeros(64, 10)})
    else:
        path = write_tf(tmp_path / "a.pkl", make_generator(), extra={"mapping/LabelEmbed/weight": np.zeros((10, 64))})
    with pytest.raises(WeightsError, match="class-conditional"):
        open_checkpoint(path)[1].parts[0].convert()


def test_the_first_stylegan_and_stylegan3_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="first StyleGAN"):
        open_checkpoint(write_tf(tmp_path / "a.pkl", make_generator(), version=3))
    torch.save(
        {"synthesis.input.freqs": torch.zeros(3, 2), "synthesis.L0_36_512.weight": torch.zeros(3, 3, 1, 1)},
        tmp_path / "b.pt",
    )
    with pytest.raises(WeightsError, match="StyleGAN3"):
        open_checkpoint(tmp_path / "b.pt")


def test_module_source_is_kept_from_running(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    source = f"import os; os.mkdir({str(canary)!r})"
    exec(source, {})
    canary.rmdir()
    copy = converted(write_nvidia(tmp_path / "a.pkl", make_generator(), source=source))
    assert torch.equal(copy.w_avg, make_generator().w_avg)
    assert not canary.exists()


def test_other_resolutions_and_depths_are_refused(tmp_path: Path) -> None:
    state = rosinality_state(make_generator())
    del state["style.2.weight"], state["style.3.weight"]
    torch.save({"g_ema": state}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="mapping_layers 1 is not in 2 to 8"):
        open_checkpoint(tmp_path / "a.pt")


def test_a_description_says_what_it_is(tmp_path: Path) -> None:
    checkpoint, found = open_checkpoint(write_nvidia(tmp_path / "a.pkl", make_generator()))
    lines = describe(checkpoint, found)
    assert "NVIDIA" in lines["is"]
    assert "img_resolution 16" in lines["generator"]
    assert "torch_utils.persistence._reconstruct_persistent_obj" in lines["names in it"]
    assert lines["hostile"] == "nothing"


def test_a_framework_without_encoder_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="its keys: state_dict, opts"):
        open_checkpoint(write_framework(tmp_path / "a.pt", {}, None, {}))


@pytest.mark.parametrize("average", ["x", [1.0], torch.tensor(1.0), torch.empty(0), torch.ones(7), torch.ones(3).int()])
def test_an_average_latent_that_is_none(average: object, tmp_path: Path) -> None:
    path = write_rosinality(tmp_path / "a.pt", make_generator())
    torch.save({**torch.load(path, weights_only=False), "latent_avg": average}, path)
    _, found = open_checkpoint(path)
    with pytest.raises(WeightsError, match=r"a\.pt.*(average latent|w_avg|where a tensor belongs)"):
        found.parts[0].convert()
