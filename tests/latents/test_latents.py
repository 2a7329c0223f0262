from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stkit.errors import LatentsError, OutputError
from stkit.latents.latents import (
    COLUMNS,
    Latents,
    Provenance,
    average,
    beside_codes,
    interpolate,
    join_latents,
    load_latents,
    save_latents,
)
from stkit.options import LatentSpace

letters = st.characters(codec="utf-8")
numbers = st.floats(-1e6, 1e6)
texts = st.none() | st.text(letters, max_size=20)
matrices = st.none() | st.tuples(*[st.tuples(*[numbers] * 3)] * 2)
edits = st.lists(st.text(letters, max_size=10), max_size=3).map(tuple)
provenances = st.builds(
    Provenance, photo=texts, photo_sha256=texts, transform=matrices, weights=texts, inverter=texts, edits=edits
)


@st.composite
def latents_values(draw: st.DrawFn) -> Latents:
    space = draw(st.sampled_from(LatentSpace))
    batch, num_ws, w_dim = (draw(st.integers(1, 4)) for _ in range(3))
    shape = (batch, w_dim) if space is LatentSpace.W else (batch, num_ws, w_dim)
    codes = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    rows = draw(st.just(()) | st.lists(provenances, min_size=batch, max_size=batch).map(tuple))
    return Latents(codes, draw(st.text("0123456789abcdef", min_size=64, max_size=64)), space, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(scope="module")
def saved(folder: Path) -> bytes:
    row = Provenance("a.jpg", "ab" * 32, ((1.0, 0.0, 2.5), (0.0, 1.0, -3.0)), "faces", "st", ("ganspace pc1 2",))
    codes = torch.linspace(-2, 2, 24).reshape(2, 3, 4)
    path = folder / "saved.safetensors"
    save_latents(Latents(codes, "f" * 64, provenance=(row, row)), path)
    return path.read_bytes()


@settings(deadline=None, max_examples=60)
@given(latents=latents_values())
def test_saved_latents_come_back(folder: Path, latents: Latents) -> None:
    path = folder / "round.safetensors"
    save_latents(latents, path)
    loaded = load_latents(path)
    assert torch.equal(loaded.codes, latents.codes)
    assert (loaded.generator, loaded.space) == (latents.generator, latents.space)
    assert loaded.provenance == latents.provenance


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_flipped_bits_are_an_error_or_a_valid_file(folder: Path, saved: bytes, data: st.DataObject) -> None:
    damaged = bytearray(saved)
    for place in data.draw(st.lists(st.integers(0, len(saved) * 8 - 1), min_size=1, max_size=4)):
        damaged[place // 8] ^= 1 << place % 8
    path = folder / "flipped.safetensors"
    path.write_bytes(bytes(damaged))
    try:
        loaded = load_latents(path)
    except LatentsError as error:
        assert "\n" not in str(error)
        return
    assert loaded.codes.dtype == torch.float32
    assert torch.isfinite(loaded.codes).all()
    matrices = [row.transform for row in loaded.provenance if row.transform is not None]
    assert all(np.shape(matrix) == (2, 3) and np.isfinite(matrix).all() for matrix in matrices)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_truncation_is_an_error(folder: Path, saved: bytes, data: st.DataObject) -> None:
    path = folder / "short.safetensors"
    path.write_bytes(saved[: data.draw(st.integers(0, len(saved) - 1))])
    with pytest.raises(LatentsError):
        load_latents(path)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=200))
def test_noise_is_an_error(folder: Path, content: bytes) -> None:
    path = folder / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(LatentsError):
        load_latents(path)


GOOD = {"format": "stkit-latents-1", "space": "w_plus", "generator": "ab", "provenance": "[]"}
ROW: dict[str, object] = {
    "photo": None,
    "photo_sha256": None,
    "transform": None,
    "weights": None,
    "inverter": None,
    "edits": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "stkit-latents-9"},
        {"space": "z"},
        {"space": "w"},
        {"provenance": "{"},
        {"provenance": "7"},
        {"provenance": '["text"]'},
        {"provenance": "[[1]]"},
        {"provenance": json.dumps([ROW, ROW])},
        {"provenance": json.dumps([{**ROW, "colour": 1}])},
        {"provenance": json.dumps([{**ROW, "transform": [[1, 2], [3, 4]]}])},
        {"provenance": json.dumps([{**ROW, "transform": [[1, 2, "x"], [3, 4, 5]]}])},
        {"provenance": json.dumps([{**ROW, "transform": [[1, 2, float("nan")], [3, 4, 5]]}])},
        {"provenance": json.dumps([{**ROW, "transform": [[1, 2, 10**400], [3, 4, 5]]}])},
        {"provenance": "[" * 200_000},
    ],
)
def test_foreign_headers_are_errors(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"codes": torch.zeros(1, 2, 3)}, path, metadata={**GOOD, **change})
    with pytest.raises(LatentsError, match=r"foreign\.safetensors|codes"):
        load_latents(path)


@pytest.mark.parametrize("missing", GOOD)
def test_a_missing_header_entry_is_an_error(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "foreign.safetensors"
    header = {key: value for key, value in GOOD.items() if key != missing}
    safetensors.torch.save_file({"codes": torch.zeros(1, 2, 3)}, path, metadata=header)
    with pytest.raises(LatentsError, match=r"foreign\.safetensors"):
        load_latents(path)


@pytest.mark.parametrize(
    "codes",
    [torch.full((1, 2, 3), torch.nan), torch.zeros(1, 2, 3, dtype=torch.float16)],
)
def test_codes_of_another_kind_are_errors(tmp_path: Path, codes: torch.Tensor) -> None:
    path = tmp_path / "codes.safetensors"
    safetensors.torch.save_file({"codes": codes}, path, metadata=GOOD)
    with pytest.raises(LatentsError, match=r"codes\.safetensors"):
        load_latents(path)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "none.safetensors", "cannot read latents"), (tmp_path, "is no latent file")):
        with pytest.raises(LatentsError, match=says):
            load_latents(path)


def test_another_generator_is_named() -> None:
    latents = Latents(torch.zeros(1, 2, 3), "a" * 64)
    latents.require_generator("a" * 64, "faces")
    with pytest.raises(LatentsError, match="aaaaaaaaaaaa, but weights 'faces' have generator bbbbbbbbbbbb"):
        latents.require_generator("b" * 64, "faces")


def test_replace_notes_the_edit() -> None:
    latents = Latents(torch.zeros(2, 2, 3), "a" * 64)
    edited = latents.replace(torch.ones(2, 2, 3), "older 2").replace(torch.ones(2, 2, 3), "smile 1")
    assert [row.edits for row in edited.provenance] == [("older 2", "smile 1")] * 2
    assert edited.codes.sum() == 12
    assert latents.provenance == ()
    assert len(edited) == 2


def test_shapes_are_checked() -> None:
    with pytest.raises(LatentsError, match="w codes need 2 dimensions"):
        Latents(torch.zeros(1, 2, 3), "a", LatentSpace.W)
    with pytest.raises(LatentsError, match="2 codes but 1 provenance"):
        Latents(torch.zeros(2, 2, 3), "a", provenance=(Provenance(),))


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.touch()
    with pytest.raises(OutputError, match="cannot write"):
        save_latents(Latents(torch.zeros(1, 2, 3), "a"), blocker / "x.safetensors")


@pytest.fixture
def full() -> Latents:
    """Three rows with every column."""
    rows = tuple(Provenance(f"{number}.jpg") for number in range(3))
    codes = torch.arange(18.0).reshape(3, 2, 3)
    return Latents(codes, "a", provenance=rows, style_offsets=torch.arange(12.0).reshape(3, 4), base=codes + 1)


def test_every_column_comes_along(full: Latents, tmp_path: Path) -> None:
    """A column that is added later is checked here without being named: give `full` one, too."""
    assert set(full.table) == {"codes", *COLUMNS}
    save_latents(full, tmp_path / "full.safetensors")
    loaded = load_latents(tmp_path / "full.safetensors")
    joined = join_latents([full.row(number) for number in range(3)])
    for other in (loaded, joined, full.to("cpu")):
        assert other.provenance == full.provenance
        assert set(other.table) == set(full.table)
        assert all(torch.equal(other.table[name], part) for name, part in full.table.items())
    for name, part in full.table.items():
        for made, expected in ((average(full), part.mean(0, keepdim=True)), (interpolate(full, 3), part)):
            if name != "codes" and COLUMNS[name].history:
                assert name not in made.table
            else:
                assert torch.allclose(made.table[name], expected)


def test_rows_without_a_column_join_those_with_it(full: Latents) -> None:
    plain = Latents(torch.ones(1, 2, 3), "a")
    for parts, row in (([plain, full], 0), ([full, plain], 3)):
        joined = join_latents(parts)
        assert joined.style_offsets is not None and joined.base is not None
        assert not joined.style_offsets[row].any() and joined.base[row].equal(plain.codes[0])
        assert joined.row(row).unedited().codes.equal(plain.codes)
    assert set(join_latents([plain, plain]).table) == {"codes"}


def test_unedited_rows_have_neither_edits_nor_history(full: Latents) -> None:
    assert full.base is not None
    before = full.replace(full.codes * 2, "more", style_offsets=torch.ones(3, 4)).unedited()
    assert set(before.table) == {"codes"} and before.codes.equal(full.base)
    assert before.provenance == full.provenance


def test_codes_of_w_become_codes_of_w_plus() -> None:
    w = Latents(torch.arange(6.0).reshape(2, 3), "a", LatentSpace.W, base=torch.zeros(2, 3))
    w_plus = w.broadcast(4)
    assert w_plus.space is LatentSpace.W_PLUS and w_plus.codes.shape == (2, 4, 3)
    assert all(torch.equal(w_plus.codes[:, layer], w.codes) for layer in range(4))
    assert w_plus.base is not None and w_plus.base.shape == (2, 4, 3)
    assert w_plus.broadcast(4) is w_plus


def test_what_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.safetensors"
    tensors = {"codes": torch.zeros(1, 2, 3), "residual": torch.zeros(1, 5)}
    safetensors.torch.save_file(tensors, path, metadata=GOOD)
    with pytest.raises(LatentsError, match="holds residual, which this version"):
        load_latents(path)


def test_what_decides_the_pictures_beside_the_codes(full: Latents) -> None:
    assert beside_codes(full) == ["style offsets (StyleSpace)"]
    assert beside_codes(Latents(full.codes, "a", base=full.codes)) == []
