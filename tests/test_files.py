from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.synchronize
import os
import re
import resource
import signal
import stat
import tracemalloc
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PureWindowsPath

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from stkit.errors import OutputError, PhotoError
from stkit.files import (
    atomic_path,
    locked,
    marked_name,
    name_key,
    parse_json,
    printable,
    read_bytes,
    read_lines,
    read_packed,
    read_text,
    require_apart,
    reserved,
    safe_name,
    write_all,
    write_text,
)
from stkit.jobs.evaluation.store import FolderStore
from stkit.jobs.outputs import read_description
from stkit.jobs.report import read_report
from stkit.latents.latents import Latents, save_latents
from stkit.photo.images import save_image
from stkit.photo.reading import load_photo
from stkit.training.log import seconds_logged


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 4 KiB: writing fails as it does on a full disk.

    A block inside the test, not a fixture: pytest's own output may be a file longer than that.
    """
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old_limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "photo.png"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "notes.txt"
    target.write_text("old")
    write_text(target, "größer")
    assert target.read_text(encoding="utf-8") == "größer"
    assert list(tmp_path.iterdir()) == [target]


def test_pipes_devices_and_files_that_claim_terabytes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**42)
    small = tmp_path / "small"
    small.write_text("x\ny")
    for path, reason in ((tmp_path / "pipe", "a pipe or a device"), (Path("/dev/zero"), "a pipe"),
                         (tmp_path / "sparse", "more than any file of its kind")):  # fmt: skip
        for read in (read_text, read_lines, partial(read_bytes, most=10)):
            with pytest.raises(OSError, match=reason):
                read(path)
        with pytest.raises(OutputError, match="is there already, with other content"):
            write_all({path: b"x"})
    assert (read_text(small), read_bytes(small, 3), read_lines(small)) == ("x\ny", b"x\ny", ["x", "y"])


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    write_text(tmp_path / "atomic", "x")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_passes_and_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "notes.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    target = tmp_path / "notes.txt"
    target.write_text("old")
    says = r"cannot write .*notes\.txt: File too large; choose another place"
    with small_disk(), pytest.raises(OutputError, match=says):
        write_text(target, "x" * 100_000)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_under_latents_and_pictures(tmp_path: Path) -> None:
    with small_disk(), pytest.raises(OutputError, match="File too large"):
        save_latents(Latents(torch.zeros(4, 18, 512), "a"), tmp_path / "a.safetensors")
    with small_disk(), pytest.raises(OutputError, match="File too large"):
        save_image(Image.effect_noise((128, 128), 80), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("a file")
    with pytest.raises(OutputError, match="cannot write") as caught:
        write_text(blocker / "out.txt", "text")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [blocker]
    assert blocker.read_text() == "a file"


def test_a_folder_that_refuses_new_files() -> None:
    # /proc takes no new files, not even from root, whom permissions do not stop.
    with pytest.raises(OutputError, match=r"cannot write /proc/stkit\.txt"):
        write_text(Path("/proc/stkit.txt"), "text")


def test_a_folder_at_the_target(tmp_path: Path) -> None:
    folder = tmp_path / "photo.png"
    folder.mkdir()
    with pytest.raises(OutputError, match="directory"):
        write_text(folder, "text")
    assert list(tmp_path.iterdir()) == [folder]


# Letters that names are made of, and such as lead elsewhere, end a name, or are no text.
TEXTS = st.text(st.one_of(st.sampled_from("./\\:*? \0\n~ac\u00e9\ud800\udcc3\udca9"), st.characters()), max_size=200)


@given(TEXTS)
@example("")
@example("..")
@example("con .txt")
@example("COM\u00b9")
@example("aux")
@example("C:")
@example("\udcc3\udca9")
@example("x" * 90 + "\u00e9" * 90)
@example("\u65e5" * 90 + ".jpg")
@example("." * 200)
@example("\u202egpj.exe")
def test_any_text_becomes_one_name_in_its_folder(text: str) -> None:
    for name in (safe_name(text), marked_name(text, "source"), safe_name(text, 120), safe_name(f"{text}.jpg")):
        assert name and len(name.encode("utf-8", "surrogateescape")) <= 120
        assert not re.search(r'[\x00-\x1f\x7f<>:"/\\|?*]', name)
        assert not name.startswith(".") and not name.endswith((".", " "))
        assert printable(name) == name or re.search("[\udc80-\udcff]", name)
        windows = PureWindowsPath(name)
        assert windows.parts == (name,) and not windows.drive
        assert name.split(".")[0].strip().casefold() not in {"con", "prn", "aux", "nul", "com1", "com\u00b9", "lpt9"}
    assert safe_name(f"x{text}.jpg").endswith(".jpg")
    assert safe_name(safe_name(text)) == safe_name(text) or "~" in safe_name(text)


@given(TEXTS, TEXTS)
@example("a/b", "a_b")
@example("a", "a.")
@example("con", "_con")
@example("a/b", safe_name("a/b"))
@example("\udcc3\udca9", "\u00e9")
@example("x" * 200, "x" * 201)
def test_two_texts_never_become_one_name(one: str, other: str) -> None:
    same = one == other
    assert (safe_name(one) == safe_name(other)) == same
    assert (marked_name("look", one) == marked_name("look", other)) == same
    assert safe_name(marked_name("look", one)) != marked_name("look", one)  # what looks made is made again


@pytest.mark.parametrize(
    "name", ["grace", "Été 日本 😀", "x.tar", "IMG_2024-01-01", "a~b", "x y (1)", "100%", "con-tour", "caf\udce9"]
)
def test_ordinary_names_stay(name: str) -> None:
    assert safe_name(name) == name


def test_keys_of_names_that_file_systems_mix_up() -> None:
    assert name_key("Caf\u00e9") == name_key("cafe\u0301") != name_key("cafe")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07b", "a\\x1b[2J\\x07b"),
        ("a\x07b\x0bc\x0cd\re\x85f", "a\\x07b\\x0bc\\x0cd\\re\\x85f"),
        ("\x9b31m \u202egpj.exe", "\\x9b31m \\u202egpj.exe"),
        ("caf\udce9.jpg", "caf\\udce9.jpg"),
        ("Fräulein 日本 \U0001f600\n\t", "Fräulein 日本 \U0001f600\n\t"),
    ],
)
def test_what_steers_a_terminal_is_shown_escaped(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    from stkit.cli.common import console, print_error, print_table

    assert printable(text) == shown
    print_table(("name",), [(text,)])
    console.print(text)
    print_error(text)
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert printed.out.count(shown.split()[0]) == 2  # with bells and form feeds, which rich drops by itself
    assert shown.split()[0] in printed.err


def test_json_that_nests_too_deeply_is_refused() -> None:
    assert parse_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    for text in ("[" * 30 + "]" * 30, "[" * 200_000, "1" * 5000, "{"):
        with pytest.raises(ValueError) as caught:
            parse_json(text)
        assert "sys." not in str(caught.value)


def test_room_is_kept_until_it_is_freed(tmp_path: Path) -> None:
    with reserved(tmp_path / "report.csv", 5000) as free:
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [5000]
        free()
        assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), reserved(tmp_path / "report.csv", 5000):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(OutputError, match="cannot write .*report.csv: No such file"),
        reserved(tmp_path / "gone" / "report.csv", 1),
    ):
        pass


def test_members_beyond_the_end_and_larger_than_they_say(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x.jpg", "y.jpg"):
            archive.writestr(name, bytes(20_000_000))
    with zipfile.ZipFile(path) as archive:
        require_apart(archive, path.stat().st_size)
        info, other = archive.infolist()
        assert len(read_packed(archive, info)) == 20_000_000
        info.file_size = 100
        tracemalloc.start()
        with pytest.raises(zipfile.BadZipFile, match="CRC"):
            read_packed(archive, info)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()
        for offset, message in (
            (2**63, "its y.jpg lies beyond its end"),
            (info.header_offset, "lie over each other at"),
        ):
            other.header_offset = offset
            with pytest.raises(zipfile.BadZipFile, match=message):
                require_apart(archive, path.stat().st_size)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_grow_without_bound_are_refused(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        archive.writestr("x.jpg", bytes(1000))
    with pytest.raises(PhotoError, match="packed in an unusual way; pack it again as ordinary ZIP"):
        load_photo(tmp_path / "a.zip" / "x.jpg")


LEFT = [
    b"",
    b"hello",
    b"[" * 100_000,
    b"null",
    b"[1, 2]",
    b"5",
    b"1" * 5000,
    bytes(range(256)),
    b'{"what": 1, "values": [2]}',
]


@pytest.mark.parametrize("data", LEFT)
def test_files_that_an_earlier_run_left(data: bytes, tmp_path: Path) -> None:
    """Damaged ones cost a line, or nothing is known of them."""
    for name in ("report.json", "of.json", "sets.json"):
        (tmp_path / name).write_bytes(data)
    for name in ("values.jsonl", "log.jsonl"):
        (tmp_path / name).write_bytes(data + b"\n")
    assert read_report(tmp_path / "report.json") is None
    description = read_description(tmp_path / "report.json")
    assert description == ({"what": 1, "values": [2]} if data.startswith(b"{") else {})
    with pytest.raises(OutputError, match=r"values.jsonl is damaged .*; delete it and start again"):
        FolderStore(tmp_path)
    (tmp_path / "values.jsonl").unlink()
    with pytest.raises(OutputError, match=r"sets.json is damaged"):
        FolderStore(tmp_path).sets(["a"])
    if data.startswith(b"{"):
        FolderStore(tmp_path).claim({"data": "x"})
        assert seconds_logged(tmp_path) == 0
    else:
        with pytest.raises(OutputError, match=r"of.json is damaged"):
            FolderStore(tmp_path).claim({"data": "x"})
        with pytest.raises(OutputError, match=r"log.jsonl is damaged"):
            seconds_logged(tmp_path)


def _hold(folder: str, held: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event) -> None:
    with locked(Path(folder)):
        held.set()
        release.wait(60)


def test_one_process_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "out"), held, release))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(OutputError, match="another stkit is writing"), locked(tmp_path / "out"):
            pass
        holder.kill()  # SIGKILL frees the folder
        holder.join(60)
        with locked(tmp_path / "out"):
            pass
    finally:
        holder.kill()
        holder.join(60)
        holder.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to"), locked(tmp_path / "taken"):
        pass
    assert (tmp_path / "taken").read_text() == "a file"
