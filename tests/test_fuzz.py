"""Damaged files end in one line, and soon; `make fuzz` goes on for as long as it is given."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stkit.weights import Weights
from tests.fuzz import Read, attempt, mutate, peak, seeds, start_of_peak


@pytest.fixture(scope="module")
def found(tiny_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Read]]:
    return list(seeds(tmp_path_factory.mktemp("seeds"), tiny_weights).items())


def test_the_files_themselves_are_read(found: list[tuple[Path, Read]]) -> None:
    for path, read in found:
        if path.name != "photos.zip" and "in" not in path.stem and path.suffix != ".pkl":
            read(path)


def test_kinds_of_all_files_are_there(found: list[tuple[Path, Read]]) -> None:
    suffixes = {path.suffix for path, _ in found}
    assert suffixes >= {".pt", ".pkl", ".npy", ".npz", ".safetensors", ".csv", ".json", ".zip", ".xml", ".bin", ".heic"}


@pytest.mark.skipif(not peak(), reason="the system does not tell how much memory was taken")
def test_memory_that_is_free_again_is_counted(tmp_path: Path) -> None:
    (path := tmp_path / "x").write_bytes(b"")
    blocks = [b"x" * 100_000 for _ in range(3000)]
    last = blocks.pop()
    blocks.clear()  # free, but below `last`: the C library keeps it, and gives the next ones of it
    before = start_of_peak()
    assert not attempt(path, lambda _: len(b"x" * 200_000_000), b"")
    assert peak() - before > 190_000_000
    assert attempt(path, lambda _: len(b"x" * 1_100_000_000), b"").endswith(" MB") and last


@pytest.mark.filterwarnings("ignore")  # of Pillow and numpy, about what they read
@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10_000), seed=st.integers(0, 2**32))
def test_only_errors_of_ours_come_out(found: list[tuple[Path, Read]], place: int, seed: int) -> None:
    path, read = found[place % len(found)]
    data = mutate(path.read_bytes(), random.Random(seed))
    assert not attempt(path, read, data), path.name
