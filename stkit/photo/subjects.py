"""Which of a photo's subjects is meant: by number, place, box or landmarks; and pictures that number them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stkit.errors import SubjectError, UsageError
from stkit.files import parse_json, read_text

if TYPE_CHECKING:
    from stkit.contracts.domains import Domain, Subject
    from stkit.photo.reading import Photo

logger = logging.getLogger("stkit")

Box = tuple[float, float, float, float]


def find_subjects(
    domain: Domain,
    photo: Photo,
    face: str = "largest",
    landmarks: np.ndarray | None = None,
    box: Box | None = None,
) -> tuple[list[tuple[int, Subject]], int]:
    """The chosen subjects of `photo`, each with its number from 1 (the largest), and how many are surely there.

    `face` is "largest", "all", a number, or a place "x,y" in photo pixels, which picks the subject there or
    nearest to it. `landmarks` [N, 2] or a `box` (left, top, right, bottom), in photo pixels, take the place of
    the search. Doubtful ones are taken by number and place only, or when all are. What speaks against a chosen
    subject is logged. Raises SubjectError, UsageError.
    """
    if landmarks is not None and box is not None:
        raise UsageError("give landmarks or a box, not both")
    if landmarks is not None or box is not None:
        if landmarks is not None:
            _require_plausible(landmarks, photo)
            subject = domain.subject_from_landmarks(photo.image, landmarks)
        else:
            assert box is not None
            subject = domain.subject_from_box(photo.image, _inside(box, photo))
        chosen, count = [(1, subject)], 1
    else:
        subjects = domain.locate(photo.image)
        if not subjects:
            raise SubjectError(
                f"no {domain.noun} found in {photo.path}; use a photo where it is well seen and not "
                f"tiny, or say where it is with --box x,y,w,h"
            )
        chosen = _choose(subjects, face, domain.noun, photo)
        count = len(_sure(subjects))
    for number, subject in chosen:
        warn_of_problems(domain.noun, number, photo.path, subject.problems)
    return chosen, count


def warn_of_problems(noun: str, number: int, path: Path, problems: Sequence[str]) -> None:
    """Log what speaks against a subject of a photo."""
    for problem in problems:
        logger.warning("%s %d of %s is %s; expect a poor result", noun, number, path.name, problem)


def parse_box(text: str) -> Box:
    """(left, top, right, bottom) of `x,y,w,h`. Raises UsageError."""
    numbers = _numbers(text, 4)
    if numbers is None or numbers[2] <= 0 or numbers[3] <= 0:
        raise UsageError(f"--box '{text}' is not like 120,80,200,240: left, top, width and height in pixels")
    left, top, width, height = numbers
    return left, top, left + width, top + height


def read_landmarks(path: Path) -> np.ndarray:
    """Points [N, 2] in pixels of the upright photo, from JSON: a list of [x, y], or that as "landmarks" of an object.

    Raises UsageError.
    """
    try:
        data = parse_json(read_text(path, encoding="utf-8-sig"))
        points = np.asarray(data["landmarks"] if isinstance(data, dict) else data, float)
    except OSError as error:
        raise UsageError(f"cannot read landmarks from {path}: {error.strerror}; check the path") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(f"{path} holds no landmarks; write a list of [x, y] as JSON") from error
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UsageError(f"{path} holds no list of [x, y] points; write them in pixels of the upright photo")
    return points


def _require_plausible(landmarks: np.ndarray, photo: Photo) -> None:
    """Raise UsageError for points that are no subject's: far from the photo, or all on one line."""
    size = np.array(photo.image.size, float)
    if (landmarks < -size).any() or (landmarks > 2 * size).any():
        raise UsageError(
            f"the landmarks lie far outside {photo.path}, which is {photo.image.width} x {photo.image.height} px; give "
            "them in pixels of the upright photo"
        )
    spread = np.linalg.svd(landmarks - landmarks.mean(0), compute_uv=False)
    if len(spread) < 2 or spread[1] < 1e-3 * max(spread[0], 1.0):
        raise UsageError("the landmarks lie in one place or on one line; give them in pixels of the upright photo")


def draw_subjects(image: Image.Image, subjects: Sequence[Subject]) -> Image.Image:
    """A copy of `image` with each subject's box, landmarks and number from 1; those with problems in orange."""
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    line = max(2, round(max(image.size) / 400))
    font = ImageFont.load_default(size=max(12, round(max(image.size) / 45)))
    for number, subject in enumerate(subjects, 1):
        colour = (255, 140, 0) if subject.problems else (0, 200, 60)
        left, top, right, bottom = subject.box
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        for x, y in subject.landmarks:
            draw.ellipse((x - line / 2, y - line / 2, x + line / 2, y + line / 2), fill=colour)
        place = draw.textbbox((left + line, top + line), str(number), font=font)
        draw.rectangle((place[0] - line, place[1] - line, place[2] + line, place[3] + line), fill=colour)
        draw.text((left + line, top + line), str(number), fill=(0, 0, 0), font=font)
    return drawn


def _sure(subjects: Sequence[Subject]) -> Sequence[Subject]:
    return [subject for subject in subjects if not subject.doubtful] or subjects


def _choose(subjects: Sequence[Subject], face: str, noun: str, photo: Photo) -> list[tuple[int, Subject]]:
    numbered = list(enumerate(subjects, 1))
    sure = len(_sure(subjects))
    if face == "all":
        return numbered[:sure]
    if face == "largest":
        if sure > 1:
            logger.info("%d %ss found in %s; took the largest (choose with --face)", sure, noun, photo.path)
        return numbered[:1]
    if face.isdecimal():
        if not 1 <= int(face) <= len(subjects):
            raise SubjectError(f"there is no {noun} {face} in {photo.path}: found {len(subjects)}, numbered from 1")
        return [numbered[int(face) - 1]]
    place = _numbers(face, 2)
    if place is None:
        raise UsageError(f"--face '{face}' is not all, largest, a number or a place like 320,140")
    nearest = min(numbered, key=lambda item: _distance(item[1].box, place))
    # Boxes end at the brows: a click on the hair is meant for the face below it.
    left, top, right, bottom = nearest[1].box
    if _distance(nearest[1].box, place)[0] > max(right - left, bottom - top) / 2:
        raise SubjectError(f"there is no {noun} at {face} in {photo.path}; see `stkit faces`")
    return [nearest]


def _distance(box: Box, place: Sequence[float]) -> tuple[float, float]:
    """From `place` to the box, 0 inside; then to its centre."""
    (left, top, right, bottom), (x, y) = box, place
    outside = float(np.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom)))
    return outside, float(np.hypot(x - (left + right) / 2, y - (top + bottom) / 2))


def _inside(box: Box, photo: Photo) -> Box:
    width, height = photo.image.size
    left, top, right, bottom = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
    if right - left < 1 or bottom - top < 1:
        raise UsageError(f"the box lies outside {photo.path}, which is {width} x {height} pixels")
    return left, top, right, bottom


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


__all__ = ["Box", "draw_subjects", "find_subjects", "parse_box", "read_landmarks", "warn_of_problems"]
