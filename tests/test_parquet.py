"""Parquet files whose footers and pages lie cost a moment and a line, and end no process."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stkit.errors import LatentsError, PhotoError, StkitError
from stkit.latents.table import Codes, encode_table, load_table, read_rows
from stkit.parquet import ParquetTable
from stkit.photo.archives import open_archive, read_member
from tests.bombs import measured

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FACTS = {"generator": "g", "space": "w_plus", "settings": {}}


def photos(rows: int = 20) -> bytes:
    """A file of photos with names, in row groups of seven."""
    data = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(data, "PNG")
    values = [{"bytes": data.getvalue() + bytes([row]), "path": f"{row}.png"} for row in range(rows)]
    return written(pa.table({"image": values}), row_group_size=7)


def codes(rows: int = 6) -> bytes:
    values = [Codes(np.full((1, 4, 8), row, np.float32), [{"photo": "x"}]) for row in range(rows)]
    return encode_table([{"photo": f"{row}.jpg"} for row in range(rows)], values, FACTS)


def written(table: Any, **options: Any) -> bytes:
    data = io.BytesIO()
    pq.write_table(table, data, compression="zstd", **options)
    return data.getvalue()


def of_codes(numbers: Any, shapes: Any, provenance: Any) -> bytes:
    table = pa.table({"codes": numbers, "shape": shapes, "provenance": provenance})
    said = json.dumps({"format": "stkit-codes-1", **FACTS})
    return written(table.replace_schema_metadata({"stkit": said}))


def read_photos(path: Path) -> None:
    for member in open_archive(path).members:
        read_member(path, member)


def read_codes(path: Path) -> None:
    load_table(path)
    read_rows(path, ["photo"])


def repeated(value: str | bytes, count: int) -> Any:
    """A column that says the same again and again."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


BOMBS: dict[str, Callable[[], bytes]] = {
    "rows of photos that are not there": lambda: written(pa.table({"image": pa.nulls(3_000_000, pa.binary())})),
    "one photo again and again": lambda: written(
        pa.table({"image": repeated(b"x" * 1_000_000, 20_000)}), store_schema=False
    ),
    "a name again and again": lambda: written(
        pa.table({"image": pa.array([b"x"] * 200), "name": repeated("x" * 4_000_000, 200)}), store_schema=False
    ),
}
BOMBS_OF_CODES: dict[str, Callable[[], bytes]] = {
    "rows of codes that are not there": lambda: of_codes(
        pa.nulls(3_000_000, pa.list_(pa.float32())), pa.nulls(3_000_000, pa.list_(pa.int32())),
        pa.nulls(3_000_000, pa.string())),
    "a code of zeros": lambda: of_codes(
        pa.array([np.zeros(20_000_000, np.float32)]), pa.array([[1, 1, 20_000_000]], pa.list_(pa.int32())), ["[]"]),
    "one story again and again": lambda: of_codes(
        pa.array([np.zeros(8, np.float32)] * 100), pa.array([[1, 1, 8]] * 100, pa.list_(pa.int32())),
        [json.dumps(["x" * 1_000_000])] * 100),
}  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "bombs"), [("tests.test_parquet:read_photos", BOMBS), ("tests.test_parquet:read_codes", BOMBS_OF_CODES)]
)
def test_files_that_say_more_than_they_hold(reader: str, bombs: dict[str, Callable[[], bytes]], tmp_path: Path) -> None:
    paths = []
    for name, build in bombs.items():
        paths.append(tmp_path / f"{name}.parquet")
        paths[-1].write_bytes(build())
        assert paths[-1].stat().st_size < 300_000
    for name, took in measured(reader, paths).items():
        assert took["error"] == "StkitError" and "\n" not in took["text"], (name, took)
        assert took["seconds"] < 5 and took["MB"] < 700, (name, took)


@pytest.mark.parametrize(("build", "read"), [(photos, read_photos), (codes, read_codes)])
def test_any_byte_of_a_footer_may_be_wrong(
    build: Callable[[], bytes], read: Callable[[Path], None], tmp_path: Path
) -> None:
    whole, chance, said = build(), random.Random(0), 0
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for number in range(400):
        data, path = bytearray(whole), tmp_path / f"{number}.parquet"
        data[chance.randrange(footer, len(data))] = chance.choice((0, 1, 0x18, 0x7F, 0x80, 0xFF))
        path.write_bytes(data)
        try:
            read(path)
        except StkitError as error:
            said += 1
            assert "\n" not in str(error)
    assert said > 50
    (tmp_path / "whole.parquet").write_bytes(whole)
    read(tmp_path / "whole.parquet")


def test_numbers_of_a_page_that_are_of_another_type(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.parquet", photos()
    pages = [match.start() for match in re.finditer(re.escape(b"\x2c\x15\x0e"), whole)]
    assert len(pages) > 2
    for page in pages:  # a structure, whose first number, of how many values it has, becomes bytes
        path.write_bytes(whole[: page + 1] + b"\x18\x01" + whole[page + 2 :])
        with pytest.raises(StkitError, match="one of its pages is damaged"):
            read_photos(path)


def test_a_page_of_zeros(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(written(pa.table({"image": [bytes(50_000_000)]})))
    with (tmp_path / "x.parquet").open("rb") as file:
        table = ParquetTable(file)
        assert sum(batch.num_rows for batch in table.batches(["image"], 8, most_page=2**26)) == 1
        with pytest.raises(ValueError, match="a page of its column image takes 50,000,004 bytes"):
            list(table.batches(["image"], 8, most_page=2**25))


def test_row_groups_over_the_same_bytes(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.parquet", photos()
    groups = pq.ParquetFile(io.BytesIO(whole)).metadata
    first, second = (groups.row_group(i).column(0).data_page_offset for i in range(2))
    changed = whole.replace(varint(second), varint(first))
    assert changed != whole and len(changed) == len(whole)
    path.write_bytes(changed)
    with pytest.raises(PhotoError, match="lie over each other|damaged"):
        read_photos(path)


def varint(value: int) -> bytes:
    """A signed number as Thrift writes it."""
    value, digits = 2 * value, bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def test_codes_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(of_codes(["text"], [[1]], ["[]"]))
    with pytest.raises(LatentsError, match="are not of the types that stkit writes"):
        load_table(path)
