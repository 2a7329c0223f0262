"""How crops are framed: the template that weights carry, and the part of a square crop that is picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The `output_crop` of domains whose square images are picture all over."""


@dataclass(frozen=True)
class AlignmentTemplate:
    """How a domain's crops are framed; it belongs to the weights.

    `points`: landmark targets in pixels of a `size` x `size` frame (kind "points"); kind "ffhq" is
    the oriented square of Karras et al. 2019 and needs no points; kind "box" fits the subject's box to
    the picture, whose left top and right bottom corners in that frame are its two points.
    """

    kind: Literal["points", "ffhq", "box"]
    size: int = 0
    points: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict:
        """A JSON-ready form, read back by `from_dict`."""
        return {"kind": self.kind, "size": self.size, "points": [list(point) for point in self.points]}

    @classmethod
    def from_dict(cls, data: dict) -> AlignmentTemplate:
        """The inverse of `to_dict`."""
        points = tuple((float(x), float(y)) for x, y in data["points"])
        return cls(kind=data["kind"], size=int(data["size"]), points=points)


def picture_box(output_crop: tuple[float, float, float, float], resolution: int) -> tuple[int, int, int, int]:
    """`output_crop` in whole pixels (left, top, right, bottom) of a square of `resolution`."""
    left, top, right, bottom = (round(share * resolution) for share in output_crop)
    return left, top, right, bottom


__all__ = ["WHOLE", "AlignmentTemplate", "picture_box"]
