"""Which of a photo's subjects is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stkit_plain import PlainDomain

from stkit.contracts.domains import Subject
from stkit.errors import SubjectError
from stkit.photo.reading import Photo, load_photo
from stkit.photo.subjects import find_subjects


@dataclass
class Found(PlainDomain):
    """Finds what it is told to."""

    subjects: list[Subject]

    def locate(self, photo: Image.Image) -> list[Subject]:
        return self.subjects


def subject(left: float, doubtful: bool = False) -> Subject:
    return Subject((left, 0.0, left + 10.0, 10.0), np.empty((0, 2)), 1.0, ("hardly seen",) * doubtful, doubtful)


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    Image.new("RGB", (100, 50)).save(tmp_path / "photo.png")
    return load_photo(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("doubtful", "face", "numbers", "count"),
    [
        ((False, False, True), "all", [1, 2], 2),
        ((False, False, True), "largest", [1], 2),
        ((False, False, True), "3", [3], 2),
        ((False, False, True), "45,5", [3], 2),
        ((True, True), "all", [1, 2], 2),
        ((True,), "largest", [1], 1),
    ],
)
def test_doubtful_subjects_are_taken_when_asked_for(
    photo: Photo, doubtful: tuple[bool, ...], face: str, numbers: list[int], count: int
) -> None:
    domain = Found([subject(20.0 * place, doubt) for place, doubt in enumerate(doubtful)])
    chosen, found = find_subjects(domain, photo, face)
    assert ([number for number, _ in chosen], found) == (numbers, count)


def test_a_number_beyond_those_found(photo: Photo) -> None:
    with pytest.raises(SubjectError, match="there is no .* 3 in .*: found 2, numbered from 1"):
        find_subjects(Found([subject(0.0), subject(20.0, True)]), photo, "3")
