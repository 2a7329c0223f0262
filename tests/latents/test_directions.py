"""Directions: their file, where they are found, what is refused, and the files of other projects."""

from __future__ import annotations

import dataclasses
import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stkit_interfacegan.method import InterFaceGAN

from stkit.checkpoints.directions import read_directions, write_direction
from stkit.contracts.editing import EditContext
from stkit.errors import UsageError, WeightsError
from stkit.latents.directions import (
    Direction,
    calibrate,
    coordinates,
    find_direction,
    find_files,
    load_direction,
    own_folder,
    save_direction,
)
from stkit.models.registry import sample_codes, sample_w
from stkit.options import LatentSpace, LayerRange, Options
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights, find_weights, verify_weights
from tests.foreign import save

CPU = torch.device("cpu")


def make(weights: Weights, **changes: Any) -> Direction:
    vector = torch.nn.functional.normalize(
        torch.randn(weights.w_dim, generator=torch.Generator().manual_seed(1)), dim=0
    )
    direction = Direction("age", "older", vector, LatentSpace.W, weights.fingerprint, 0.7, (-2.5, 2.0), notes={"n": 3})
    return dataclasses.replace(direction, **changes)


@pytest.fixture
def other(tmp_path: Path) -> Weights:
    return make_tiny_weights(tmp_path / "other", seed=5)


def in_w_plus(weights: Weights) -> torch.Tensor:
    vector = torch.randn(weights.num_ws, weights.w_dim, generator=torch.Generator().manual_seed(2))
    return vector / vector.norm()


def test_a_file_holds_all_of_it(tiny_weights: Weights, tmp_path: Path) -> None:
    plus = make(tiny_weights, vector=in_w_plus(tiny_weights), space=LatentSpace.W_PLUS, layers=LayerRange(1, 3))
    for direction in (make(tiny_weights), plus):
        save_direction(tmp_path / "direction-age.safetensors", direction, tiny_weights)
        back = load_direction(tmp_path / "direction-age.safetensors")
        assert torch.equal(back.vector, direction.vector)
        for field in dataclasses.fields(Direction):
            if field.name != "vector":
                assert getattr(back, field.name) == getattr(direction, field.name), field.name


def test_own_directions_go_before_shipped_ones(tiny_weights: Weights, other: Weights, tmp_path: Path) -> None:
    weights = find_weights(str(shutil.copytree(tiny_weights.folder, tmp_path / "mine")))
    save_direction(weights.folder / "direction-age.safetensors", make(weights, unit=1.0), weights)
    save_direction(weights.folder / "direction-sex.safetensors", make(weights, name="sex"), weights)
    own = own_folder(weights) / "direction-age.safetensors"
    save_direction(own, make(weights, unit=2.0), weights)
    assert list(find_files(weights, "direction")) == ["age", "sex"]
    found = find_direction(weights, "age")
    assert found is not None
    assert found.unit == 2.0
    assert find_direction(weights, "smile") is None
    assert set(verify_weights(weights).values()) == {"ok"}
    # One of an earlier generator of that name does not stand before the shipped one that fits.
    save_direction(own, make(other), other)
    shipped = find_direction(weights, "age")
    assert shipped is not None
    assert shipped.unit == 1.0


def test_a_direction_of_another_generator_is_refused(
    tiny_weights: Weights, other: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    save_direction(own_folder(tiny_weights) / "direction-age.safetensors", make(other), other)
    assert InterFaceGAN().attributes(EditContext(tiny_weights, CPU)) == []
    assert InterFaceGAN().attributes(EditContext(tiny_weights, CPU)) == []
    assert caplog.text.count(other.fingerprint[:12]) == 1
    with pytest.raises(WeightsError, match=f"{other.fingerprint[:12]}.*{tiny_weights.fingerprint[:12]}"):
        context = EditContext(tiny_weights, CPU, "age")
        InterFaceGAN().edit(random_latents(tiny_weights, 1), Options(), context)
    with pytest.raises(WeightsError, match="belongs to generator"):
        save_direction(own_folder(tiny_weights) / "direction-x.safetensors", make(other), tiny_weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vector": torch.eye(48)[0]}, "width 48, but weights 'tiny' have 6 layers of width 32"),
        ({"vector": torch.eye(32)[:18] / 18**0.5, "space": LatentSpace.W_PLUS}, "18 layers of width 32"),
        ({"layers": LayerRange(2, 11)}, "layers 2-11, but weights 'tiny' have layers 0-5"),
    ],
)
def test_other_shapes_are_refused(tiny_weights: Weights, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        make(tiny_weights, **changes).require_fit(tiny_weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"vector": torch.zeros(32)},
        {"vector": torch.full((32,), torch.nan)},
        {"space": LatentSpace.W_PLUS},
        {"unit": 0.0},
    ],
)
def test_directions_that_are_none(tiny_weights: Weights, changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="age"):
        make(tiny_weights, **changes)


def test_names_stay_inside_their_folder(tiny_weights: Weights) -> None:
    for name in ("../age", "", "a b", ".x"):
        with pytest.raises(UsageError, match="cannot name"):
            make(tiny_weights, name=name)


def test_a_file_of_another_kind(tiny_weights: Weights) -> None:
    with pytest.raises(WeightsError, match="is a generator .* not a direction"):
        load_direction(tiny_weights.path("generator"))


def test_edits_move_by_units_in_the_layers(tiny_weights: Weights) -> None:
    latents = random_latents(tiny_weights, 2)
    direction = make(tiny_weights, layers=LayerRange(2, 3))
    save_direction(own_folder(tiny_weights) / "direction-age.safetensors", direction, tiny_weights)
    context = EditContext(tiny_weights, CPU, "age", strength=-2.0)
    moved = InterFaceGAN().edit(latents, Options(), context).codes - latents.codes
    expected = torch.zeros_like(moved)
    expected[:, 2:4] = -2.0 * 0.7 * direction.vector
    assert torch.allclose(moved, expected, atol=1e-6)
    elsewhere = dataclasses.replace(context, layers=LayerRange(0, 0))
    moved = InterFaceGAN().edit(latents, Options(), elsewhere).codes - latents.codes
    assert moved.abs().amax((0, 2)).gt(1e-3).tolist() == [True] + [False] * 5
    plus = make(tiny_weights, vector=in_w_plus(tiny_weights), space=LatentSpace.W_PLUS)
    assert torch.allclose(
        plus.move(latents.codes, 3.0, [1, 4])[:, [1, 4]], latents.codes[:, [1, 4]] + 2.1 * plus.vector[[1, 4]]
    )


def test_calibration_is_the_spread_of_coordinates(tiny_weights: Weights) -> None:
    codes = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 1.0])
    vector = torch.tensor([0.0, 1.0, 0.0])
    unit, (low, high) = calibrate(coordinates(codes, vector))
    assert unit == pytest.approx(5.0, rel=0.02)
    assert (low, high) == (pytest.approx(-2.6, abs=0.11), pytest.approx(2.6, abs=0.11))
    plus = codes[:, None] * torch.tensor([1.0, 2.0])[:, None]
    assert torch.allclose(coordinates(plus, vector), 1.5 * codes[:, 1].double())
    assert torch.allclose(coordinates(plus, vector, LayerRange(1, 1)), 2 * codes[:, 1].double())
    rows = torch.stack([vector, torch.zeros(3)])
    assert torch.allclose(coordinates(plus, rows), coordinates(codes, rows))
    assert torch.equal(sample_w(tiny_weights, 10, 3), sample_w(tiny_weights, 2500, 3)[:10])


def test_samples_of_w_plus_are_truncated_mixed_and_noisy_as_said(tiny_weights: Weights) -> None:
    codes = sample_codes(tiny_weights, 1200, 3)
    assert torch.allclose(sample_codes(tiny_weights, 10, 3), codes[:10], atol=1e-5)
    assert not torch.equal(sample_codes(tiny_weights, 10, 4), codes[:10])
    changes = (codes.diff(dim=1).abs().amax(2) > 0).sum(1)  # how often neighbouring layers differ
    layers = codes.shape[1] - 1
    plain, mixed, noisy = (float((test).float().mean()) for test in (changes == 0, changes < layers, changes == layers))
    assert plain == pytest.approx(0.35, abs=0.05)
    assert mixed - plain == pytest.approx(0.35, abs=0.05)
    assert noisy == pytest.approx(0.3, abs=0.05)


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


COMPONENTS = vectors(5, 1, 8)
FILES: dict[str, tuple[Any, torch.Tensor]] = {
    "interfacegan.npy": (vectors(1, 8).numpy(), vectors(1, 8)),
    "flat.npy": (vectors(8).numpy(), vectors(1, 8)),
    "stit.npy": (vectors(6, 8).numpy(), vectors(1, 6, 8)),
    "e4e.pt": (vectors(1, 8).float(), vectors(1, 8)),
    "e4e-plus.pt": (vectors(1, 6, 8).float(), vectors(1, 6, 8)),
    "ganspace.pt": ({"mean": vectors(1, 8), "comp": COMPONENTS, "std": vectors(5)}, COMPONENTS[:, 0]),
    "ganspace.npz": (
        {"act_comp": np.zeros((5, 1, 16)), "lat_comp": COMPONENTS.numpy(), "lat_stdev": np.ones(5)},
        COMPONENTS[:, 0],
    ),
    "column.npy": (vectors(8, 1).numpy(), vectors(8, 1).T),
    "flat-plus.npy": (vectors(1, 48).numpy(), vectors(1, 48)),
    "one.npz": ({"boundary": vectors(1, 8).numpy()}, vectors(1, 8)),
    "with-intercept.npz": ({"w": vectors(1, 8).numpy(), "b": np.ones(1)}, vectors(1, 8)),
    "named.npy": ({"direction": vectors(1, 8).numpy(), "mean": np.ones(8)}, vectors(1, 8)),
    "named.pt": ({"boundary": vectors(6, 8), "accuracy": 0.9}, vectors(1, 6, 8)),
    "list.pt": ([vectors(1, 8)], vectors(1, 8)),
    "float16.npy": (vectors(1, 8).numpy().astype(">f8"), vectors(1, 8)),
    "factor.pt": ({"ckpt": "stylegan2.pt", "eigvec": vectors(8, 8)}, vectors(8, 8).T),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("renamed", [False, True])
def test_layouts_of_other_projects(tmp_path: Path, name: str, renamed: bool) -> None:
    data, expected = FILES[name]
    path = save(tmp_path / name, data)
    read = read_directions(path.rename(tmp_path / "direction.bin") if renamed else path)
    assert read.vectors.shape == expected.shape
    assert torch.allclose(read.vectors.flatten(1).norm(dim=1), torch.ones(len(read), dtype=torch.float64))
    cosines = (read.vectors * expected).flatten(1).sum(1) / expected.flatten(1).norm(dim=1)
    assert torch.allclose(cosines, torch.ones_like(cosines), atol=1e-6)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "bool"])
def test_numbers_of_another_kind_are_called_by_it(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "odd.npy", np.ones((1, 8), dtype))
    with pytest.raises(WeightsError, match=rf"shape \(1, 8\) of {dtype}, not that of a direction"):
        read_directions(path)


def test_one_of_several_is_chosen_by_its_name(tmp_path: Path) -> None:
    data = {"age": vectors(1, 8).numpy(), "smile": np.ones((1, 8))}
    path = save(tmp_path / "both.npy", data)
    with pytest.raises(WeightsError, match=r"several arrays, age \(1, 8\), smile \(1, 8\).*--name age"):
        read_directions(path)
    assert torch.allclose(read_directions(path, "smile").vectors, torch.full((1, 8), 8**-0.5, dtype=torch.float64))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("zero.npy", np.zeros((1, 8))),
        ("nan.pt", torch.full((1, 8), torch.nan)),
        ("objects.npy", np.array([{}], dtype=object)),
        ("many.npy", np.ones((2, 3, 8))),
        ("words.npy", np.array(["a"])),
        ("dict.pt", {"age": torch.ones(3), "smile": torch.ones(3)}),
        ("list.pt", [torch.ones(3), torch.ones(3)]),
        ("mask.pt", torch.ones(1, 8, dtype=torch.bool)),
        ("complex.pt", torch.ones(1, 8, dtype=torch.complex64)),
        ("evil.npy", np.array([Evil()], dtype=object)),
        ("odd.pt", {"comp": torch.ones(3)}),
        ("eigvec.pt", {"eigvec": torch.ones(3, 3, 3, 3)}),
        ("evil.pt", Evil()),
    ],
)
def test_files_without_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=name):
        read_directions(save(tmp_path / name, data))
    assert not Path("executed").exists()


def test_damaged_files(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz", ".pt"):
        path = tmp_path / f"broken{suffix}"
        for content in (b"", b"PK\x03\x04 nothing", b"\x93NUMPY\x01\x00\xff"):
            path.write_bytes(content)
            with pytest.raises(WeightsError, match="broken"):
                read_directions(path)


def test_files_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 512)})
    (tmp_path / "giant.npy").write_bytes(header.getvalue() + bytes(4096))
    with zipfile.ZipFile(tmp_path / "giant.npz", "w") as archive:
        archive.writestr("lat_comp.npy", header.getvalue() + bytes(4096))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lat_comp.npy", bytes(2**26 + 2**20))
    np.save(tmp_path / "bytes.npy", np.ones(2**26, np.uint8))
    with zipfile.ZipFile(tmp_path / "objects.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        array = io.BytesIO()
        np.save(array, np.array([1] * 300_000, dtype=object), allow_pickle=True)
        for name in ("a", "b"):
            archive.writestr(f"{name}.npy", array.getvalue())
    with zipfile.ZipFile(tmp_path / "shapes.npz", "w") as archive:
        odd = io.BytesIO()
        np.lib.format.write_array_header_1_0(odd, {"descr": "<f8", "fortran_order": False, "shape": (-1, 512)})
        archive.writestr("lat_comp.npy", odd.getvalue() + bytes(4096))
    with zipfile.ZipFile(tmp_path / "activations.npz", "w") as archive:
        archive.writestr("act_comp.npy", header.getvalue())
    for name, reason in (
        ("giant.npy", "more than 268,435,456 bytes"),
        ("giant.npz", "more than 268,435,456 bytes"),
        ("bomb.npz", "its lat_comp: it takes more than 67,[0-9,]* bytes"),
        ("bytes.npy", "it takes many times its own size in memory"),
        ("objects.npz", "more steps to read"),
        ("shapes.npz", "a shape that no array has"),
        ("activations.npz", "more than 268,435,456 bytes"),
    ):
        with pytest.raises(WeightsError, match=f"{name}.*{reason}|{reason}.*{name}"):
            read_directions(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    for vector in (vectors(8), vectors(6, 8)):
        unit = (vector / vector.norm()).float()
        write_direction(unit, tmp_path / f"out{suffix}")
        assert torch.allclose(read_directions(tmp_path / f"out{suffix}").vectors[0].float(), unit, atol=1e-6)
