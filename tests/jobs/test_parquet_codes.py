"""`stkit invert --format parquet`: a row a photo in a few files, which other commands read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stkit.datasets.labels import AttributeSpec, load_labels
from stkit.editor.opening import open_editor
from stkit.errors import LatentsError, OutputError, PhotoError, UsageError
from stkit.jobs import codes
from stkit.jobs.labelled import labelled_photos
from stkit.jobs.request import EditRequest, InvertRequest
from stkit.jobs.run import run
from stkit.jobs.sources import list_photos
from stkit.latents.latents import load_latents

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
COUNT = 5


@pytest.fixture
def photos(make_photos: Callable[[int], Path]) -> Path:
    """Photos, and a broken one."""
    folder = make_photos(COUNT)
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


def test_a_row_a_photo_and_every_run_goes_on(
    plain_weights: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "_ROWS", 4)
    out = tmp_path / "codes"
    asked = InvertRequest(photos, out, weights=plain_weights, format="parquet")
    report = run(asked)
    assert [row.status for row in report.rows] == ["ok"] * COUNT + ["failed"]
    assert sorted(path.name for path in out.iterdir() if path.suffix not in (".csv", ".json", ".lock")) == [
        "codes-00000.latents.parquet",
        "codes-00001.latents.parquet",
    ]
    table = {row["photo"]: row for path in codes.shards_in(out) for row in pq.read_table(path).to_pylist()}
    assert len(table) == COUNT + 1
    plain = run(InvertRequest(photos, tmp_path / "plain", weights=plain_weights))
    for ours, theirs in zip(report.rows, plain.rows, strict=True):
        row = table[ours.photo]
        assert (ours.status, ours.reason, ours.mse, ours.sha256) == (
            theirs.status,
            theirs.reason,
            theirs.mse,
            theirs.sha256,
        )
        assert (row["status"], row["reason"], row["mse"]) == (ours.status, ours.reason, ours.mse)
        if ours.status == "ok":
            (latents,) = Path(theirs.folder).glob("*.latents.safetensors")
            same = load_latents(latents)
            assert row["shape"] == list(same.codes.shape)
            assert torch.allclose(torch.tensor(row["codes"]), same.codes.flatten(), atol=1e-5)
            assert json.loads(row["provenance"])[0]["photo_sha256"] == ours.sha256
        else:
            assert row["codes"] is None and row["provenance"] is None
    # The broken one is mended, another one has changed; those rows are replaced, and nothing else is inverted.
    (photos / "broken.png").write_bytes((photos / "1.png").read_bytes())
    (photos / "0.png").write_bytes((photos / "2.png").read_bytes())
    again = run(asked)
    assert [row.status for row in again.rows] == ["ok", *["kept"] * (COUNT - 1), "ok"]
    rows = [row["photo"] for path in codes.shards_in(out) for row in pq.read_table(path).to_pylist()]
    assert sorted(rows) == sorted(table)
    with pytest.raises(OutputError, match="made with inverter style-transformer and not e4e"):
        run(InvertRequest(photos, out, weights=plain_weights, inverter="e4e", format="parquet"))
    with pytest.raises(UsageError, match="--format parquet is for many photos"):
        run(InvertRequest(photos / "0.png", out, weights=plain_weights, format="parquet"))


def test_what_is_done_when_a_run_is_stopped_is_kept(plain_weights: str, photos: Path, tmp_path: Path) -> None:
    asked = InvertRequest(photos, tmp_path / "codes", weights=plain_weights, format="parquet", batch_size=1)

    def stop(what: str, done: int, total: int) -> None:
        if what == "photos" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="after 2 of 6"):
        run(asked, stop)
    assert [row.status for row in run(asked).rows].count("kept") == 2


def test_other_commands_read_them(
    plain_weights: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "codes"
    run(InvertRequest(photos, out, weights=plain_weights, format="parquet"))
    run(InvertRequest(photos, out, weights=plain_weights, format="parquet"))  # the broken one gets a file of its own
    with pytest.raises(LatentsError, match="holds no codes: all its photos failed"):
        load_latents(out / "codes-00001.latents.parquet")
    latents = load_latents(out / "codes-00000.latents.parquet")
    assert len(latents) == COUNT and latents.provenance[0].photo == str(photos / "0.png")
    files = str(out / "*.latents.parquet")
    edited = run(EditRequest(files, tmp_path / "edited", edits=["sefa:eig1=1"], weights=plain_weights))
    assert [row.status for row in edited.rows] == ["ok"] * COUNT
    (tmp_path / "labels.csv").write_text("file,red\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(COUNT)))
    editor = open_editor(None, plain_weights, "cpu")
    labels, specs = load_labels(tmp_path / "labels.csv"), [AttributeSpec("red", None)]
    monkeypatch.setattr("stkit.jobs.labelled.MIN_OF_A_CLASS", 1)
    data = labelled_photos(editor, labels, Path(files), specs)
    assert [Path(name).name for name in data.names] == [f"{i}.png" for i in range(COUNT)]
    assert data.values[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(data.codes, latents.codes)


def test_what_is_no_table_of_codes_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.latents.parquet"
    with pytest.raises(LatentsError, match="there is no file"):
        load_latents(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(LatentsError, match="cannot read codes from"):
        load_latents(path)
    pq.write_table(pa.table({"codes": [[1.0]]}), path)
    with pytest.raises(LatentsError, match="it is not of stkit"):
        load_latents(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["x.latents.parquet", "x.txt"])
def test_pipes_are_no_files_of_codes_and_no_lists(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(PhotoError, match="it is a pipe or a device and no file"):
        list_photos([str(tmp_path / name)], tmp_path / "out", load_latents)
