"""Inverted codes of labelled photos: the rows that are taken, and the cache."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.contracts.inversion import InversionContext, Inverter
from stkit.datasets.codes import LabelledCodes, invert_files, labelled_codes
from stkit.datasets.labels import load_labels
from stkit.errors import LabelsError, StkitError
from stkit.latents.latents import Latents
from stkit.options import Options
from stkit.tensors import load_tensors, save_tensors
from stkit.testing import make_tiny_weights
from stkit.weights import Weights, cache_folder

CPU = torch.device("cpu")


class Mean(Inverter[Options]):
    """Every entry of the codes is the mean of the crop; counts the crops that it has seen."""

    name = "mean"
    description = "the mean of the crop"

    def __init__(self) -> None:
        self.seen = 0

    def invert(self, crops: torch.Tensor, options: Options, context: InversionContext) -> Latents:
        self.seen += len(crops)
        weights = context.weights
        means = crops.mean((1, 2, 3))[:, None, None]
        return Latents(means.expand(-1, weights.num_ws, weights.w_dim), weights.fingerprint)


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return make_tiny_weights(tmp_path / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 grey pictures, 5 levels apart each, in a zip."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(40):
            picture = tmp_path / "one.png"
            Image.new("RGB", (16, 16), (5 * i,) * 3).save(picture)
            file.write(picture, f"{i:02d}.png")
    return path


def write_labels(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def levels(codes: torch.Tensor) -> list[int]:
    return [round(float(value + 1) * 127.5) // 5 for value in codes[:, 0, 0]]


def invert(weights: Weights, photos: Path, labels: Path, columns: list[tuple[str, str | None]]) -> LabelledCodes:
    return labelled_codes(weights, load_labels(labels), photos, columns, Mean(), CPU)


def test_rows_with_any_label_are_taken_in_their_splits(weights: Weights, photos: Path, tmp_path: Path) -> None:
    rows = ["03.png,train,20,F", "01.png,val,,M", "02.png,train,,", "07.png,test,30,F", "99.png,train,1,F"]
    labels = write_labels(tmp_path / "a.csv", "file,split,age,sex", rows)
    found = invert(weights, photos, labels, [("age", None), ("sex", "M")])
    assert found.names == ("03.png", "01.png") and levels(found.codes) == [3, 1]
    assert found.attributes == ("age", "sex")
    np.testing.assert_array_equal(found.values, [[20, 0], [np.nan, 1]])
    assert found.val.tolist() == [False, True]
    everything = invert(weights, photos, labels, [])
    assert everything.names == ("03.png", "01.png", "02.png") and everything.values.shape == (3, 0)


def test_without_splits_every_25th_is_held_out(weights: Weights, photos: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "a.csv", "file,age", [f"{i:02d}.png,{i}" for i in range(40)])
    found = invert(weights, photos, labels, [("age", None)])
    assert found.val.nonzero().flatten().tolist() == [24]
    assert levels(found.codes) == list(range(40))


def test_a_split_without_photos_is_said(weights: Weights, photos: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "a.csv", "file,split,age", ["03.png,train,20", "04.png,test,3"])
    with pytest.raises(LabelsError, match="no labelled photo of the split 'val'"):
        invert(weights, photos, labels, [("age", None)])


def test_a_photo_is_inverted_once(weights: Weights, photos: Path, tmp_path: Path) -> None:
    inverter = Mean()
    names = [f"{i:02d}.png" for i in range(20)]
    first, _ = invert_files(weights, photos, names, inverter, CPU)
    assert inverter.seen == 20
    again, broken = invert_files(weights, photos, [*names[::-1], "30.png"], inverter, CPU)
    assert inverter.seen == 21 and not broken
    assert levels(again) == [*range(19, -1, -1), 30]
    assert torch.equal(again[:20].flip(0), first)
    other = make_tiny_weights(tmp_path / "other", seed=4)
    invert_files(other, photos, names[:2], inverter, CPU)
    assert inverter.seen == 23  # another generator's codes are others


def test_a_network_that_was_trained_again_inverts_again(weights: Weights, photos: Path) -> None:
    class Encoder(Mean):
        name = "e4e"

    inverter = Encoder()
    for seen in (2, 2):
        invert_files(weights, photos, ["00.png", "01.png"], inverter, CPU)
        assert inverter.seen == seen
    header, tensors = load_tensors(weights.path("inverter-e4e"))
    save_tensors(weights.path("inverter-e4e"), {**tensors, "latent_avg": tensors["latent_avg"] + 1}, header)
    invert_files(weights, photos, ["00.png", "01.png"], inverter, CPU)
    assert inverter.seen == 4


def test_an_interrupted_inversion_goes_on(weights: Weights, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stkit.datasets.codes._CHUNK", 16)
    inverter = Mean()
    names = [f"{i:02d}.png" for i in range(40)]

    def interrupt(done: int, total: int) -> None:
        assert total == 40
        if done == 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert_files(weights, photos, names, inverter, CPU, interrupt)
    assert inverter.seen == 32
    invert_files(weights, photos, names, inverter, CPU)
    assert inverter.seen == 40


def test_broken_photos_are_named_and_left_out(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.new("RGB", (20, 16), (50, 50, 50)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no picture")
    codes, broken = invert_files(weights, folder, ["bad.png", "good.png"], Mean(), CPU)
    assert levels(codes) == [10] and broken == {"bad.png"}
    assert "bad.png" in caplog.text
    with pytest.raises(StkitError, match="no readable photo among the 1"):
        invert_files(weights, folder, ["bad.png"], Mean(), CPU)


def test_a_damaged_cache_costs_time_alone(weights: Weights, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    inverter = Mean()
    invert_files(weights, photos, ["03.png"], inverter, CPU)
    (kept,) = (cache_folder() / "codes").rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:50])
    with caplog.at_level(logging.WARNING, "stkit"):
        codes, _ = invert_files(weights, photos, ["03.png"], inverter, CPU)
    assert levels(codes) == [3] and inverter.seen == 2
    assert "damaged" in caplog.text
