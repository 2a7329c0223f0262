from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.datasets.images import (
    ImageFiles,
    ImageSet,
    batch_indices,
    batches,
    flip_some,
    labels_beside,
    load_image_set,
    load_train_val,
)
from stkit.errors import PhotoError, StkitError


def encoded(image: Image.Image, format: str = "png") -> bytes:
    data = io.BytesIO()
    image.save(data, format)
    return data.getvalue()


def plain(colour: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def pack(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def files() -> dict[str, bytes]:
    return {f"{name}.png": encoded(plain((10 * i, 0, 0))) for i, name in enumerate("abc")}


def test_a_folder_and_a_zip_give_the_same_images_in_the_order_of_names(tmp_path: Path, files: dict[str, bytes]) -> None:
    files = {"deep/er/z.png": encoded(plain((99, 0, 0))), "notes.txt": b"not an image", **files}
    folder = load_image_set(fill(tmp_path / "folder", files), 16)
    packed = load_image_set(pack(tmp_path / "data.zip", files), 16)
    assert folder.names == packed.names == ("a.png", "b.png", "c.png", "deep/er/z.png")
    assert torch.equal(folder.images, packed.images)
    assert folder.images.dtype == torch.uint8
    assert folder.images[:, 0, 0, 0].tolist() == [0, 10, 20, 99]


def test_data_sets_as_they_are_published(tmp_path: Path, files: dict[str, bytes]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole = load_image_set(fill(tmp_path / "folder", files), 16)
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "folder", "data")
    values = [{"bytes": data, "path": name} for name, data in files.items()]
    parquet.write_table(pa.table({"image": values}), tmp_path / "data.parquet")
    for name in ("data.tar", "data.parquet"):
        packed = load_image_set(tmp_path / name, 16)
        assert torch.equal(packed.images, whole.images)
        assert [Path(each).name for each in packed.names] == list(whole.names)


def test_broken_images_are_left_out_and_named(
    tmp_path: Path, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "jpeg")
    bad = {"cut.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"hello"}
    with caplog.at_level(logging.WARNING):
        images = load_image_set(fill(tmp_path / "folder", {**files, **bad}), 16)
    assert images.names == ("a.png", "b.png", "c.png")
    assert images.broken == ("cut.jpg", "empty.png", "text.png")
    assert len(images) == len(images.images) == 3
    assert [name in caplog.text for name in bad] == [True] * 3


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_entry_is_left_out(tmp_path: Path, files: dict[str, bytes], compression: int) -> None:
    path = pack(tmp_path / "data.zip", files, compression)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("b.png").header_offset + 30 + len("b.png")  # where its data begin
    data = bytearray(path.read_bytes())
    for i in range(start, start + 20):
        data[i] ^= 0xFF
    path.write_bytes(data)
    images = load_image_set(path, 16)
    assert (images.names, images.broken) == (("a.png", "c.png"), ("b.png",))


def test_odd_but_valid_images_become_rgb_squares(tmp_path: Path) -> None:
    grey = Image.new("L", (16, 16), 77)
    alpha = Image.new("RGBA", (16, 16), (200, 100, 50, 0))
    wide = plain(size=(40, 20))
    wide.paste((0, 0, 255), (0, 0, 4, 20))  # beyond the centre square
    turned = plain(size=(16, 16))
    turned.paste((0, 0, 255), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upside_down = io.BytesIO()
    turned.save(upside_down, "png", exif=exif)
    files = {
        "alpha.png": encoded(alpha),
        "deep.png": encoded(Image.fromarray(np.full((16, 16), 77 * 257, np.uint16))),
        "cmyk.jpg": encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 178)), "jpeg"),
        "exif.png": upside_down.getvalue(),
        "grey.png": encoded(grey),
        "large.png": encoded(plain(size=(100, 100))),
        "palette.png": encoded(plain().quantize(4)),
        "small.png": encoded(plain(size=(3, 3))),
        "wide.png": encoded(wide),
    }
    images = load_image_set(fill(tmp_path, files), 16)
    assert images.images.shape == (9, 3, 16, 16)
    pixels = dict(zip(images.names, images.images, strict=True))
    for name in ("large.png", "palette.png", "small.png", "wide.png"):
        expected = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 16, 16)
        assert torch.equal(pixels[name], expected), name
    assert pixels["exif.png"][:, 0, 0].tolist() == [200, 100, 50]
    assert pixels["exif.png"][:, 15, 0].tolist() == [0, 0, 255]
    assert (pixels["alpha.png"] == 255).all()  # transparent: the white beneath, as when a photo is read
    for name in ("deep.png", "grey.png", "cmyk.jpg"):
        assert (pixels[name].int() - 77).abs().max() <= 2, name


def write_labels(path: Path, rows: str) -> Path:
    path.write_text("file,split\n" + rows, encoding="utf-8")
    return path


def test_the_csv_beside_the_data_chooses_the_split(tmp_path: Path, files: dict[str, bytes]) -> None:
    data = pack(tmp_path / "data.zip", {f"images/{name}": content for name, content in files.items()})
    write_labels(tmp_path / "data.csv", "a.png,train\nb.png,val\nc.png,train\n")
    assert load_image_set(data, 16, "train").names == ("images/a.png", "images/c.png")
    assert load_image_set(data, 16, "val").names == ("images/b.png",)
    assert len(load_image_set(data, 16)) == 3
    with pytest.raises(StkitError, match="no rows of the split 'test'; it has: train, val"):
        load_image_set(data, 16, "test")


def test_the_csv_beside_a_folder_has_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dogs.2024"
    folder.mkdir()
    assert labels_beside(folder) == tmp_path / "dogs.2024.csv"
    assert labels_beside(tmp_path / "dogs.v2.zip") == tmp_path / "dogs.v2.csv"
    monkeypatch.chdir(folder)
    assert labels_beside(Path()) == tmp_path / "dogs.2024.csv"


def test_rows_may_name_files_with_their_folder(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", ".thumbnails/2.png"):
        (tmp_path / "all" / name).parent.mkdir(parents=True)
        plain().save(tmp_path / "all" / name)
    (tmp_path / "all.csv").write_text("file,split\na/1.png,train\nb/1.png,val\n")
    train, val = load_train_val(tmp_path / "all", 16)
    assert (train.names, val.names) == (("a/1.png",), ("b/1.png",))


def test_heic_photos_are_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    plain(size=(64, 64)).save(tmp_path / "phone.HEIC")
    files = ImageFiles(tmp_path)
    assert files.names == ["phone.HEIC"]
    colour = load_image_set(tmp_path, 16).images[0].float().mean((1, 2))
    assert (colour - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 6


@pytest.mark.parametrize("count", [2, 24, 25, 26, 51])
def test_without_a_csv_every_25th_image_validates(tmp_path: Path, count: int) -> None:
    for i in range(count):
        Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / f"{i:02}.png")
    train, val = load_train_val(tmp_path, 16)
    held_out = [24, 49][: count // 25] or [count - 1]
    assert [int(name[:2]) for name in val.names] == held_out
    for part in (train, val):
        assert [int(image[0, 0, 0]) for image in part.images] == [int(name[:2]) for name in part.names]
    assert sorted(train.names + val.names) == [f"{i:02}.png" for i in range(count)]


def test_a_folder_without_csv_is_used_whole_for_any_split(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert len(load_image_set(fill(tmp_path / "data", files), 16, "train")) == 3


def test_rows_whose_file_is_missing_are_counted(
    tmp_path: Path, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    labels = write_labels(tmp_path / "mine.csv", "a.png,train\ngone.png,train\nlost.png,train\nlost2.png,val\n")
    with caplog.at_level(logging.WARNING):
        images = load_image_set(fill(tmp_path / "data", files), 16, "train", labels)
    assert images.names == ("a.png",)
    assert "2 files of the split 'train' are not in" in caplog.text


@pytest.mark.parametrize("text", ["", "file,split\n", "name,part\na.png,train\n"])
def test_labels_without_their_columns_are_one_line(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(
        StkitError,
        match="columns file and split|are empty|header and no rows|no column",
    ):
        load_image_set(fill(tmp_path / "data", files), 16, "train", labels)


def test_unusable_sources_are_one_line(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(StkitError, match=r"no training data at .*nowhere"):
        load_image_set(tmp_path / "nowhere", 16)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StkitError, match=r"no readable images in .*empty"):
        load_image_set(empty, 16)
    with pytest.raises(StkitError, match=r"no readable images in .*bad"):
        load_image_set(fill(tmp_path / "bad", {"a.png": b"x"}), 16)
    fake = tmp_path / "fake.zip"
    fake.write_bytes(b"this is no zip")
    with pytest.raises(PhotoError, match=r"fake\.zip as a ZIP archive"):
        load_image_set(fake, 16)
    with pytest.raises(StkitError, match="cannot read labels"):
        load_image_set(fill(tmp_path / "data", files), 16, "train", tmp_path / "none.csv")


def test_progress_reaches_the_total(tmp_path: Path, files: dict[str, bytes]) -> None:
    seen: list[tuple[int, int]] = []
    load_image_set(fill(tmp_path, files), 16, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_batches_of_pixels_lie_in_minus_one_to_one() -> None:
    images = ImageSet(torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4), ("a", "b"))
    batch = images.batch(torch.tensor([1, 0, 1]), torch.device("cpu"))
    assert batch[:, 0, 0, 0].tolist() == [1, -1, 1]
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_epoch_shows_each_image_once_in_another_order() -> None:
    rows = torch.cat([batch_indices(10, 4, seed=3, step=step) for step in range(5)])
    first, second = rows[:10], rows[10:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert torch.equal(rows[8:12], batch_indices(10, 4, seed=3, step=2))
    assert not torch.equal(first, torch.cat([batch_indices(10, 5, seed=4, step=step) for step in range(2)]))


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert torch.bincount(batch_indices(3, 7, seed=0, step=0)).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_flips_mirror_about_half() -> None:
    images = torch.rand(200, 3, 2, 2)
    flipped = flip_some(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_slices_cover_everything() -> None:
    assert [len(part) for part in batches(torch.zeros(7, 1), 3)] == [3, 3, 1]
