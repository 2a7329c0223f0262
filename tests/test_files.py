from __future__ import annotations

import contextlib
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkit.errors import OutputError
from stkit.files import atomic_path, write_text
from stkit.latents.latents import Latents, save_latents
from stkit.photo.images import save_image


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
