"""Label files of all formats give the same labels, and what is wrong with one is said with its place."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stkit.datasets.images import read_splits
from stkit.datasets.labels import load_labels, match_photos
from stkit.errors import LabelsError, UnknownNameError, UsageError

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8).map(str.strip)
NAMES = st.lists(st.from_regex(r"[a-z]{1,6}\.png", fullmatch=True), min_size=1, max_size=8, unique=True)
QUIET = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@QUIET
@given(NAMES, st.data(), st.sampled_from([",", "\t", ";"]))
def test_tables_come_back_cell_by_cell(tmp_path: Path, files: list[str], data: st.DataObject, delimiter: str) -> None:
    rows = [[file, data.draw(CELLS), data.draw(CELLS)] for file in files]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["file", "a", "b"], *rows])
    labels = load_labels(write(tmp_path, text.getvalue()))
    assert labels.files == files
    assert labels.names == ["a", "b"]
    assert [list(cells) for cells in labels.cells.values()] == [[row[i] for row in rows] for i in (1, 2)]


@QUIET
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=10))
def test_numbers_are_read_and_gaps_are_nan(tmp_path: Path, values: list[float | None]) -> None:
    lines = [f"{i}.png,{'' if value is None else repr(value)},x" for i, value in enumerate(values)]
    column = load_labels(write(tmp_path, "\n".join(["image_id,a,b", *lines]))).column("a")
    expected = np.array([np.nan if value is None else value for value in values])
    if set(expected[~np.isnan(expected)]) == {-1.0, 1.0}:
        expected = (expected + 1) / 2
    np.testing.assert_array_equal(column, expected)


@QUIET
@given(st.binary(max_size=200))
@example(b",")
def test_any_bytes_are_labels_or_one_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    try:
        labels = load_labels(path)
    except LabelsError as error:
        assert str(path) in str(error)
    else:
        assert all(len(cells) == len(labels) > 0 for cells in labels.cells.values())


def test_celeba(tmp_path: Path) -> None:
    text = "3\nSmiling  Male\n000001.jpg  1 -1\n000002.jpg -1 -1\n000003.jpg  1  1\n"
    labels = load_labels(write(tmp_path, text, "list_attr_celeba.txt"))
    assert labels.files == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert labels.column("Smiling").tolist() == [1, 0, 1]
    assert labels.split is None
    with pytest.raises(LabelsError, match="announces 4 rows and has 3"):
        load_labels(write(tmp_path, "4" + text[1:], "list_attr_celeba.txt"))
    with pytest.raises(LabelsError, match="line 3 .* has 1 labels and the header 2"):
        load_labels(write(tmp_path, text.replace("1 -1", "1", 1), "list_attr_celeba.txt"))


@pytest.mark.parametrize("wrapped", [True, False])
def test_dataset_json(tmp_path: Path, wrapped: bool) -> None:
    def load(entries: object) -> Path:
        return write(tmp_path, json.dumps({"labels": entries} if wrapped else entries), "dataset.json")

    labels = load_labels(load([["00000/a.png", 6], ["00000/b.png", 2]]))
    assert labels.names == ["label"]
    assert labels.column("label").tolist() == [6, 2]
    assert labels.column("label", "6").tolist() == [1, 0]
    several = load_labels(load([["a.png", [0.5, 1]], ["b.png", [None, 0]]]))
    assert several.names == ["label0", "label1"]
    np.testing.assert_array_equal(several.column("label0"), [0.5, np.nan])
    with pytest.raises(LabelsError, match="entry 1"):
        load_labels(load([["a.png", [0.5, 1]], ["b.png", [0]]]))
    with pytest.raises(LabelsError, match="has no labels"):
        load_labels(load([]))


def test_words_need_a_positive_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = load_labels(write(tmp_path, "file,sex\na.png,F\nb.png,M\nc.png,\nd.png,F\n"))
    with caplog.at_level("INFO", "stkit"):
        np.testing.assert_array_equal(labels.column("sex"), [0, 1, np.nan, 0])
    assert "'sex': M counts as 1, F as 0; `sex=F` turns it round" in caplog.text
    three = load_labels(write(tmp_path, "file,body\na.png,suv\nb.png,van\nc.png,coupe\nd.png,van\n"))
    with pytest.raises(UsageError, match="van 2, .*body=van"):
        three.column("body")
    np.testing.assert_array_equal(labels.column("sex", "F"), [1, 0, np.nan, 1])
    with pytest.raises(UsageError, match="never holds 'X'; it holds F 2, M 1"):
        labels.column("sex", "X")
    with pytest.raises(UnknownNameError, match=r"did you mean sex\? There is: sex"):
        labels.column("sexe")


def test_words_among_numbers_are_told(tmp_path: Path) -> None:
    labels = load_labels(write(tmp_path, "file,age\na.png,31\nb.png,old\nc.png,\nd.png,29\ne.png,40\n"))
    with pytest.raises(UsageError, match="column 'age' of .* holds numbers, but for 1 cells: old 1; correct or empty"):
        labels.column("age")


def test_split_is_no_label(tmp_path: Path) -> None:
    labels = load_labels(write(tmp_path, "split,path,a\ntrain,x/a.png,1\nval,x/b.png,0\n"))
    assert labels.names == ["a"]
    assert labels.split is not None
    assert labels.split.tolist() == ["train", "val"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("file,a\n", "no rows"),
        ("a,b\n1,2\n", "no column for the file; name one of a, b 'file'"),
        ("file|a\nx.png|1\n", r"is one column, 'file\|a'; separate columns by commas, tabs or semicolons"),
        ("file,a,a\nx.png,1,2\n", "column 'a' more than once"),
        ("file,a\nx.png,1\nx.png,0\n", "1 files in several rows, like 'x.png'"),
        ("file,a\nx.png,1\ny.png,1,2\n", "line 3 .* has 3 cells and the header 2"),
        ("{", "not JSON"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        load_labels(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="No such file"):
        load_labels(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("file,a\né.png,1".encode("latin-1"))
    with pytest.raises(LabelsError, match="UTF-8"):
        load_labels(tmp_path / "latin.csv")


def test_photos_are_matched_by_path_and_by_name(tmp_path: Path) -> None:
    labels = load_labels(write(tmp_path, "file,a\nx/a.png,1\nb.png,0\nc.png,1\n"))
    assert match_photos(labels, ["x/a.png", "y/a.png", "deep/b.png"]) == {0: "x/a.png", 1: "deep/b.png"}
    with pytest.raises(LabelsError, match="'b.png' .* 2 photos"):
        match_photos(labels, ["u/b.png", "v/b.png"])
    with pytest.raises(LabelsError, match="no photo has a row"):
        match_photos(labels, ["z.png"])


def archive(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return path


NVIDIA = json.dumps({"labels": [["00000/a.png", 1], ["00000/b.png", 0]]})


@pytest.mark.parametrize(
    "members",
    [
        {"dataset_dot_json": NVIDIA, "00000__a_dot_png": ""},
        {"set__dataset_dot_json": NVIDIA, "notes_dot_csv": "file,x\n"},
        {"labels_dot_csv": "file,label\n00000/a.png,1\n00000/b.png,0\n", "deeper__x_dot_csv": "file,x\n"},
        {
            "all__labels_dot_csv": "file,label\n00000/a.png,1\n00000/b.png,0\n",
            "all__00000__a_dot_png": "",
            "_dot_hidden__x_dot_csv": "",
        },
    ],
)
def test_an_archive_stands_for_the_labels_in_it(members: dict[str, str], tmp_path: Path) -> None:
    labels = load_labels(archive(tmp_path / "data.zip", **members))
    assert labels.files == ["00000/a.png", "00000/b.png"]
    assert labels.column("label").tolist() == [1, 0]
    assert labels.path.parts[-2:] != ("data.zip",) and "data.zip" in str(labels.path)
    assert match_photos(labels, ["00000/a.png", "00000\\b.png"]) == {0: "00000/a.png", 1: "00000\\b.png"}


RECORDS = [
    {"file_name": "a.jpg", "smile": 0.5, "sex": "F", "glasses": True, "box": [1, 2]},
    {"file_name": "b.jpg", "sex": "M", "smile": None},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.json", json.dumps(RECORDS)),
        ("labels.json", json.dumps({"labels": RECORDS})),
        ("metadata.jsonl", "\n".join(map(json.dumps, RECORDS)) + "\n"),
    ],
)
def test_objects_with_a_file_each(name: str, text: str, tmp_path: Path) -> None:
    labels = load_labels(write(tmp_path, text, name))
    assert labels.files == ["a.jpg", "b.jpg"]
    assert labels.cells == {"smile": ["0.5", ""], "sex": ["F", "M"], "glasses": ["1", ""]}
    assert load_labels(write(tmp_path, json.dumps(RECORDS[0]), "one.jsonl")).column("smile").tolist() == [0.5]
    assert load_labels(write(tmp_path, '{"labels": {"a.jpg": 3}}', "dataset.json")).column("label").tolist() == [3]


def test_shards_of_webdataset_have_labels_beside_each_photo(tmp_path: Path) -> None:
    files = {"x/1.jpg": b"", "x/1.json": b'{"age": 31, "file": "old.jpg"}', "x/1.cls": b"2\n", "x/2.face.jpg": b""}
    files |= {"x/2.json": b'{"age": 40}', "x/3.json": b'{"age": 50}'}
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    labels = load_labels(tmp_path / "shard.tar")
    assert labels.files == ["x/1.jpg", "x/2.face.jpg"]
    assert labels.cells == {"age": ["31", "40"], "label": ["2", ""]}


def test_a_parquet_file_has_labels_in_its_other_columns(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    photos = [{"bytes": b"x", "path": name} for name in ("a.jpg", "b.png")]
    table = pa.table({"image": photos, "label": [0, 1], "word": ["old", None], "score": [0.25, float("nan")]})
    parquet.write_table(table, tmp_path / "faces.parquet")
    labels = load_labels(tmp_path / "faces.parquet")
    assert labels.files == ["a.jpg", "b.png"]
    assert labels.column("label").tolist() == [0, 1] and labels.cells["word"] == ["old", ""]
    assert np.isnan(labels.column("score")[1])
    write(tmp_path, "file,age\na.jpg,5\n", "bare.csv")
    parquet.write_table(table.select(["image"]), tmp_path / "bare.parquet")
    assert load_labels(tmp_path / "bare.parquet").column("age").tolist() == [5]
    (tmp_path / "bare.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(LabelsError, match="cannot read"):
        load_labels(tmp_path / "bare.parquet")


def test_a_folder_stands_for_the_labels_in_it_or_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(LabelsError, match=r"holds no label file \(dataset.json"):
        load_labels(folder)
    write(tmp_path, "file,label\nx.png,1\n", "photos.csv")
    assert load_labels(folder).files == ["x.png"]
    assert load_labels(archive(tmp_path / "photos.zip", **{"x_dot_png": ""})).files == ["x.png"]
    write(folder, NVIDIA, "dataset.json")
    assert len(load_labels(folder)) == 2


def test_which_labels_of_an_archive_is_asked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", one_dot_csv="file,x\na.png,1\n", two_dot_csv="file,x\na.png,1\n")
    with pytest.raises(LabelsError, match=r"holds 2 tables \(one.csv, two.csv\); choose one, like --labels .*one.csv"):
        load_labels(path)
    assert load_labels(path / "two.csv").files == ["a.png"]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LabelsError):
        load_labels(path)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 5000 + "\nsmile\na.jpg 1\n", "x" * 200_000 + ",file\n1,a.jpg\n", "file,smile\n" + "x" * 200_000 + ",1\n",
        "file,smile\na.jpg\n", '{"labels": [["a.jpg", ' + "1" * 5000 + "]]}", "[" * 100_000, '{"labels": [[["a"]]]}',
        '"', '{"labels": {"a": [[]]}}', '{"smile": 1}', '[{"file": "a.jpg"}, 3]', '[{"file": "a.jpg"}, {"smile": 1}]',
        '{"file": "a.jpg"}\n{"file": ',
    ],
)  # fmt: skip
def test_files_of_no_sense_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(LabelsError) as caught:
        load_labels(path).column("smile")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_splits_are_read_as_excel_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file;split\na.jpg;train\nb.jpg;val\n", encoding="utf-8-sig")
    assert read_splits(path) == {"a.jpg": "train", "b.jpg": "val"}


def test_a_damaged_line_of_many_is_named(tmp_path: Path) -> None:
    lines = ['{"file": "a.jpg", "smile": 1}', "", '{"file": "b.jpg", "smile": ' + "9" * 5000 + "}"]
    with pytest.raises(LabelsError, match="are not JSON: in line 3, a number of thousands of digits"):
        load_labels(write(tmp_path, "\n".join(lines), "lines.jsonl"))


def test_files_without_labels_are_said_to_have_none(tmp_path: Path) -> None:
    labels = load_labels(write(tmp_path, '{"file": "a.jpg", "smile": {"a": 1}}', "none.jsonl"))
    with pytest.raises(LabelsError, match="name files and say nothing of them; add a column 'smile'"):
        labels.column("smile")
