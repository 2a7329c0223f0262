"""What a run leaves to look at: one JSON object a line, a plot of all its curves, TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from stkit.errors import OutputError
from stkit.files import left_by_a_run, parse_json, read_left_lines, read_lines, write_text
from stkit.photo.images import image_grid, picture_part, save_image, to_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_PANEL = (300, 150)
_NOT_DRAWN = ("step", "seconds")


class RunLog:
    """`log.jsonl`, `losses.png` and TensorBoard's files in the folder of a run.

    On resume the lines past the checkpoint at step `done` are dropped, with one cut short by a crash.
    """

    def __init__(self, out: Path, done: int) -> None:
        self.path = out / "log.jsonl"
        with left_by_a_run(self.path):
            lines = read_lines(self.path) if done and self.path.exists() else []
        write_text(self.path, "".join(line + "\n" for line in lines if _logged_step(line) <= done))
        self._board = _board(out / "tensorboard", done)

    def write(self, *, step: int, **values: float) -> None:
        """Add a line. Raises OutputError."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; make room, then --resume") from error
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def plot(self) -> None:
        """Draw everything so far. Raises OutputError."""
        lines = read_left_lines(self.path)
        save_image(draw_curves(lines), self.path.with_name("losses.png"))

    def close(self) -> None:
        """End TensorBoard's writing."""
        if self._board:
            self._board.close()


def seconds_logged(out: Path) -> float:
    """The wall time in seconds that the run in `out` has trained for, over all times that it was started."""
    path = out / "log.jsonl"
    with left_by_a_run(path):
        clock = [float(line["seconds"]) for line in read_left_lines(path) if "seconds" in line]
    # The clock begins anew whenever the run goes on.
    return sum(now for now, later in zip(clock, [*clock[1:], -math.inf], strict=False) if later < now)


def save_samples(
    out: Path, step: int, images: Tensor, columns: int, output_crop: tuple[float, float, float, float]
) -> None:
    """Write the picture parts of `images` [N, 3, R, R] in [-1, 1] to `out`/samples, named after the step."""
    grid = image_grid([to_image(picture_part(image, output_crop)) for image in images], columns)
    save_image(grid, out / "samples" / f"{step:07d}.png")


def draw_curves(lines: Sequence[Mapping[str, float]]) -> Image.Image:
    """One panel for each value in `lines` over their `step`, with its lowest, highest and last value."""
    names = dict.fromkeys(name for line in lines for name in line if name not in _NOT_DRAWN)
    panels, captions = [], []
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line and math.isfinite(line[name])]
        panels.append(_panel(points))
        captions.append(f"{name} {points[-1][1]:.4g}" if points else name)
    return image_grid(panels or [_panel([])], 3, captions or ["nothing yet"])


def _panel(points: Sequence[tuple[float, float]]) -> Image.Image:
    width, height = _PANEL
    image = Image.new("RGB", _PANEL, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(200, 200, 200))
    if not points:
        return image
    (first, last), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    place = [
        (
            8 + (width - 16) * (x - first) / max(last - first, 1e-12),
            height - 8 - (height - 16) * (y - low) / max(high - low, 1e-12),
        )
        for x, y in points
    ]
    if len(place) > 1:
        draw.line(place, fill=(30, 90, 200), width=2)
    for text, y in ((f"{high:.4g}", 4), (f"{low:.4g}", height - 16)):
        draw.text((width - 6, y), text, fill=(110, 110, 110), font=ImageFont.load_default(size=11), anchor="ra")
    x, y = place[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(200, 60, 30))
    return image


def _board(folder: Path, done: int) -> Any:
    """TensorBoard's writer, or None where the package is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    # On resume TensorBoard itself drops what was logged past the checkpoint.
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _logged_step(line: str) -> float:
    """The step of a line of numbers; infinity for any other."""
    try:
        return {name: float(value) for name, value in parse_json(line).items()}["step"]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return math.inf


__all__ = ["RunLog", "draw_curves", "save_samples", "seconds_logged"]
