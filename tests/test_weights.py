"""Weights folders: found by name, checked, loaded strictly."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stkit.checkpoints.download import load_official
from stkit.checkpoints.importing import remove_weights
from stkit.editor.editor import Editor
from stkit.errors import LatentsError, UnknownNameError, WeightsError
from stkit.latents.directions import Direction, load_direction, save_direction
from stkit.latents.latents import load_latents, save_latents
from stkit.latents.tuning import tuning_between
from stkit.models.registry import load_generator
from stkit.models.shapes import StyleGAN2Config
from stkit.models.style_transformer import load_style_transformer
from stkit.models.stylegan2 import StyleGAN2
from stkit.options import LatentSpace
from stkit.plugins import load_plugins
from stkit.tensors import load_tensors, save_tensors, state_shapes
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import (
    DOWNLOADS,
    Weights,
    find_weights,
    load_header,
    shipped_folder,
    user_folder,
    verify_weights,
    weights_names,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path, tiny_weights: Weights) -> Path:
    """A copy of the tiny weights that a test may spoil."""
    return Path(shutil.copytree(tiny_weights.folder, tmp_path / "copy"))


def test_the_generator_is_what_was_saved(folder: Path) -> None:
    weights = find_weights(str(folder))
    generator = load_generator(weights)
    _, tensors = load_tensors(weights.path("generator"))
    assert generator.state_dict().keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name].float()) for name, value in generator.state_dict().items())
    assert not generator.training
    assert load_generator(weights) is generator
    assert (weights.num_ws, weights.resolution, weights.w_dim) == (
        generator.config.num_ws,
        generator.config.img_resolution,
        generator.config.w_dim,
    )


def test_names_are_found_in_the_users_folder(folder: Path) -> None:
    shutil.copytree(folder, user_folder() / "mine")
    assert weights_names()["mine"] == user_folder() / "mine"
    assert find_weights("mine").fingerprint == find_weights(str(folder)).fingerprint
    with pytest.raises(UnknownNameError, match="did you mean mine"):
        find_weights("mne")


@pytest.mark.parametrize("kind", ["generator", "inverter"])
@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "text"])
def test_damaged_files_are_one_line(folder: Path, kind: str, change: str) -> None:
    path = folder / f"{kind}.safetensors"
    data = path.read_bytes()
    flipped = data[:-9] + bytes([data[-9] ^ 0x10]) + data[-8:]
    path.write_bytes({"flip": flipped, "truncate": data[: len(data) // 2], "empty": b"", "text": b"weights"}[change])
    with pytest.raises(WeightsError) as caught:
        weights = find_weights(str(folder))
        if kind == "generator":
            load_generator(weights)
        weights.load(kind, "style-transformer", lambda config: torch.nn.Identity())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_another_generator_are_refused(folder: Path, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=7)
    shutil.copy(other.path("inverter"), folder / "inverter.safetensors")
    weights = find_weights(str(folder))
    with pytest.raises(WeightsError) as caught:
        weights.load("inverter", "style-transformer", lambda config: torch.nn.Identity())
    assert weights.fingerprint[:12] in str(caught.value)
    assert other.fingerprint[:12] in str(caught.value)
    assert "belongs to generator" in verify_weights(weights)["inverter.safetensors"]


def test_loading_is_strict(folder: Path) -> None:
    path = folder / "generator.safetensors"
    header, tensors = load_tensors(path)
    tensors["extra"] = torch.zeros(1)
    save_tensors(path, tensors, dataclasses.replace(header, generator=""))
    with pytest.raises(WeightsError, match="does not fit its own config"):
        load_generator(find_weights(str(folder)))


def test_a_config_of_other_entries_is_told_in_words(folder: Path) -> None:
    path = folder / "generator.safetensors"
    header, tensors = load_tensors(path)
    save_tensors(path, tensors, dataclasses.replace(header, config={**header.config, "colour": 1}, generator=""))
    with pytest.raises(WeightsError, match=r"entries of its config \(.*colour.*\) are missing, unknown") as caught:
        load_generator(find_weights(str(folder)))
    assert "__init__" not in str(caught.value)


def test_missing_parts_and_wrong_architectures_are_named(folder: Path) -> None:
    weights = find_weights(str(folder))
    with pytest.raises(WeightsError, match=r"have no classifier; they have: generator, inverter"):
        weights.load("classifier", "mlp", lambda config: torch.nn.Identity())
    with pytest.raises(WeightsError, match="is a style-transformer inverter, not a psp one"):
        weights.load("inverter", "psp", lambda config: torch.nn.Identity())


def test_the_manifest_notices_changed_files(folder: Path) -> None:
    root = folder.parent
    write_manifest(root)
    weights = find_weights(str(folder))
    assert set(verify_weights(weights).values()) == {"ok"}
    header, tensors = load_tensors(weights.path("inverter"))
    save_tensors(weights.path("inverter"), {k: v + 1 for k, v in tensors.items()}, header)
    assert "manifest" in verify_weights(weights)["inverter.safetensors"]
    weights.path("inverter").unlink()
    assert verify_weights(weights)["inverter.safetensors"].startswith("missing")


def test_weights_of_this_folder_have_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert find_weights(".").name == folder.name


def test_a_name_goes_before_a_folder_here(
    tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("faces", "ffhq", "mine"):
        shutil.copytree(tiny_weights.folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert find_weights("mine").fingerprint == tiny_weights.fingerprint
    assert not caplog.messages
    assert find_weights("faces").folder == shipped_folder() / "faces"
    assert caplog.messages == ["weights 'faces' are those of that name; for the folder here give ./faces"]
    with pytest.raises(WeightsError, match="not downloaded yet"):
        find_weights("ffhq")
    assert caplog.messages[1:] == ["weights 'ffhq' are those of that name; for the folder here give ./ffhq"]
    for path in ("./faces", Path("faces"), str(tmp_path / "faces")):
        assert find_weights(path).fingerprint == tiny_weights.fingerprint


def test_the_fingerprint_is_of_names_shapes_and_values(tmp_path: Path, tiny_weights: Weights) -> None:
    header = tiny_weights.header
    variants = [
        {"a": torch.zeros(2, 3)},
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3).half()},
        {"a": torch.tensor([[0.0, 0, 0], [0, 0, 1e-30]])},
    ]
    prints = {save_tensors(tmp_path / "x.safetensors", tensors, header).fingerprint for tensors in variants}
    assert len(prints) == len(variants)


def test_shipped_weights_are_what_the_manifest_says() -> None:
    assert "faces" in weights_names()
    assert (shipped_folder() / "manifest.toml").is_file()
    for name in weights_names():
        weights = find_weights(name)
        assert set(verify_weights(weights).values()) == {"ok"}, name
        assert weights.header.licence
        total = sum(weights.path(kind).stat().st_size for kind in weights.kinds())
        assert max(weights.path(kind).stat().st_size for kind in weights.kinds()) < 40e6
        assert total < 120e6


def test_shipped_parts_are_for_the_generator_that_is_downloaded() -> None:
    official = load_official()
    for name in DOWNLOADS:
        for path in (shipped_folder() / name).glob("*.safetensors"):
            assert path.name != "generator.safetensors"
            assert load_header(path).generator == official[name].fingerprint, path


def test_headers_need_no_model(tiny_weights: Weights) -> None:
    header = load_header(tiny_weights.path("generator"))
    assert header.generator == header.fingerprint
    assert StyleGAN2(StyleGAN2Config(**header.config)).config.img_resolution == 16


def test_several_inverters_lie_beside_one_generator(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "several")
    assert weights.own_inverter() == "style-transformer"
    assert weights.inverters() == {
        "style-transformer": "inverter",
        "psp": "inverter-psp",
        "e4e": "inverter-e4e",
        "restyle": "inverter-restyle",
    }
    weights.path("inverter").unlink()
    weights.path("inverter-e4e").unlink()
    assert weights.own_inverter() == "psp"
    with pytest.raises(WeightsError, match="have no e4e inverter; they have: psp, restyle; name one of them"):
        weights.inverter_kind("e4e")
    for path in weights.folder.glob("inverter*"):
        path.unlink()
    with pytest.raises(WeightsError, match="have no style-transformer inverter; they have none"):
        load_style_transformer(weights)
    with pytest.raises(WeightsError, match="have no inverter; train one"):
        weights.own_inverter()


def test_models_first_loaded_in_inference_mode_can_still_be_optimised_through(folder: Path) -> None:
    weights = find_weights(str(folder))
    with torch.inference_mode():
        load_generator(weights)
    codes = torch.zeros(1, weights.num_ws, weights.w_dim, requires_grad=True)
    load_generator(weights).synthesize(codes, dtype=torch.float32).sum().backward()
    assert codes.grad is not None


@pytest.fixture
def completed(tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights of a name whose generator lies in the user's folder, all else in the shipped one."""
    shipped, own = tmp_path / "shipped" / "ffhq", user_folder() / "ffhq"
    shutil.copytree(tiny_weights.folder, shipped)
    own.mkdir(parents=True)
    (shipped / "generator.safetensors").rename(own / "generator.safetensors")
    monkeypatch.setattr("stkit.weights.shipped_folder", lambda: shipped.parent)
    write_manifest(shipped.parent)
    return find_weights("ffhq")


def test_weights_that_come_in_two_places_are_one(completed: Weights, tiny_weights: Weights) -> None:
    assert completed.kinds() == tiny_weights.kinds()
    assert completed.inverters() == tiny_weights.inverters()
    assert completed.folder == user_folder() / "ffhq" and completed.shipped is not None
    assert completed.path("inverter") == completed.shipped / "inverter.safetensors"
    assert (
        completed.path("classifier") == completed.own_path("classifier") == completed.folder / "classifier.safetensors"
    )
    load_style_transformer(completed)
    assert set(verify_weights(completed).values()) == {"ok"}
    assert weights_names() == {"ffhq": completed.folder}
    completed.path("inverter").write_bytes(b"damaged")
    assert "damaged" in verify_weights(find_weights("ffhq"))["inverter.safetensors"]
    with pytest.raises(WeightsError, match="cannot read weights from"):
        load_style_transformer(find_weights("ffhq"))
    completed.path("inverter").unlink()
    assert "missing" in verify_weights(find_weights("ffhq"))["inverter.safetensors"]


def test_the_users_own_part_goes_before_a_shipped_one(completed: Weights) -> None:
    header, tensors = load_tensors(completed.path("inverter"))
    before = completed.path("inverter").read_bytes()
    save_tensors(completed.own_path("inverter"), {**tensors, "z": tensors["z"] + 1}, header)
    found = find_weights("ffhq")
    assert found.path("inverter") == found.own_path("inverter")
    assert set(verify_weights(found).values()) == {"ok"}
    assert found.shipped is not None and (found.shipped / "inverter.safetensors").read_bytes() == before


def test_shipped_parts_for_another_generator_of_that_name_are_left_out(completed: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=7)
    shutil.copy(other.path("generator"), completed.own_path("generator"))
    found = find_weights("ffhq")
    assert found.kinds() == ["generator"]
    assert not found.path("inverter").exists()
    assert "belongs to generator" in verify_weights(found)["inverter.safetensors"]


def test_a_generator_that_is_not_downloaded_yet_is_told(completed: Weights) -> None:
    completed.path("generator").unlink()
    assert weights_names() == {}
    with pytest.raises(WeightsError, match=r"not downloaded yet; `stkit weights download ffhq` \(38 MB\) gets them"):
        find_weights("ffhq")
    with pytest.raises(UnknownNameError, match="did you mean ffhq"):
        find_weights("fhq")


def test_removing_them_leaves_what_is_shipped(completed: Weights) -> None:
    assert remove_weights("ffhq") == completed.folder
    assert not completed.folder.exists() and completed.shipped is not None and list(completed.shipped.iterdir())


def test_shipped_folders_without_a_generator_are_in_the_manifest(completed: Weights) -> None:
    assert completed.shipped is not None
    shutil.copy(completed.path("generator"), completed.shipped)
    write_manifest(completed.shipped.parent)
    listed = (completed.shipped.parent / "manifest.toml").read_text()
    assert "[ffhq]" in listed and "inverter.safetensors" in listed and "generator.safetensors" not in listed


@pytest.fixture
def sharpened(tiny_weights: Weights, tmp_path: Path) -> Weights:
    """Another generator that takes the codes of `tiny_weights`."""
    header, tensors = load_tensors(tiny_weights.path("generator"))
    tensors = {name: value * 1.01 if "noise" in name else value for name, value in tensors.items()}
    header = dataclasses.replace(header, generator="", fingerprint="", space=tiny_weights.space)
    save_tensors(tmp_path / "sharp" / "generator.safetensors", tensors, header)
    shutil.copy(tiny_weights.path("inverter"), tmp_path / "sharp")
    return find_weights(str(tmp_path / "sharp"))


def test_generators_that_share_a_space_share_what_speaks_of_codes(sharpened: Weights, tiny_weights: Weights) -> None:
    assert sharpened.fingerprint != tiny_weights.fingerprint == tiny_weights.space == sharpened.space
    load_style_transformer(sharpened)
    load_generator(sharpened)
    assert set(verify_weights(sharpened).values()) == {"ok"}
    latents = random_latents(tiny_weights, 1)
    editor = Editor(sharpened, load_plugins(), torch.device("cpu"))
    assert editor.generate(latents).shape == (1, 3, 16, 16)
    assert editor.sample([1]).generator == tiny_weights.space
    vector = torch.nn.functional.normalize(torch.ones(tiny_weights.w_dim), dim=0)
    direction = Direction("x", "x", vector, LatentSpace.W, tiny_weights.space, 0.5, (-1.0, 1.0))
    path = sharpened.folder / "direction-x.safetensors"
    save_direction(path, direction, sharpened)
    stamped = load_header(path)
    assert (stamped.generator, stamped.code_space) == (sharpened.fingerprint, tiny_weights.space)
    load_direction(path).require_fit(tiny_weights)


def test_a_tuning_is_of_one_generator_whatever_its_space(sharpened: Weights, tiny_weights: Weights) -> None:
    base = load_generator(tiny_weights)
    tuned = copy.deepcopy(base)
    next(tuned.synthesis.parameters()).add_(0.01)
    latents = dataclasses.replace(random_latents(tiny_weights, 1), tuning=tuning_between(base, tuned, tiny_weights))
    Editor(tiny_weights, load_plugins(), torch.device("cpu")).generate(latents)
    with pytest.raises(LatentsError) as caught:
        Editor(sharpened, load_plugins(), torch.device("cpu")).generate(latents)
    assert tiny_weights.fingerprint[:12] in str(caught.value) and sharpened.fingerprint[:12] in str(caught.value)
    path = sharpened.folder / "x.latents.safetensors"
    save_latents(dataclasses.replace(latents, tuning=tuning_between(base, tuned, sharpened)), path)
    opened = load_latents(path)
    assert opened.tuning is not None and opened.tuning.header.generator == sharpened.fingerprint


def test_headers_from_before_spaces_are_read(tiny_weights: Weights) -> None:
    header = load_header(find_weights("faces").path("inverter"))
    assert header.space == "" and header.code_space == header.generator == find_weights("faces").space


def test_shapes_of_a_network_that_draws_numbers_of_its_own() -> None:
    class Drawn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            random = torch.Generator().manual_seed(0)
            self.register_buffer("a", torch.randn(3, 2, generator=random))
            self.register_buffer("b", torch.rand(4, generator=random) / 2)
            self.c = torch.nn.Parameter(torch.empty(5))
            torch.nn.init.normal_(tensor=self.c, std=0.1)

    assert state_shapes(Drawn) == {"a": (3, 2), "b": (4,), "c": (5,)}


def test_shapes_of_generators_need_no_compiler() -> None:
    code = (
        "import sys\n"
        "from stkit.weights import state_shapes\n"
        "from stkit.models.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig\n"
        "from stkit.models.shapes import StyleGAN2Config\n"
        "from stkit.models.stylegan2 import StyleGAN2\n"
        "state_shapes(lambda: MobileStyleGAN(MobileStyleGANConfig()))\n"
        "state_shapes(lambda: StyleGAN2(StyleGAN2Config(img_resolution=64)))\n"
        "print('sympy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
