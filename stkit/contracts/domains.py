"""The domain contract: what a domain (faces, cars) is and how its subjects are found in a photo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor


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


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject found in a photo.

    `box` is (left, top, right, bottom) in photo pixels, `landmarks` [N, 2] in photo pixels (x, y)
    in the domain's own order, `score` the detector's confidence (higher is surer). `problems` say
    what speaks against it, each with its measure ("turned by 50 degrees (35 at most)"); a `doubtful` one
    may be none at all, and is only taken when asked for by number or place, or when there is no other.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float
    problems: tuple[str, ...] = ()
    doubtful: bool = False

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return max(right - left, 0.0) * max(bottom - top, 0.0)


class Domain(ABC):
    """A kind of subject. Subclasses are cheap to construct: heavy models load in `locate`."""

    name: ClassVar[str]
    description: ClassVar[str]
    noun: ClassVar[str]
    """What one subject is called in messages: "face", "car"."""
    default_weights: ClassVar[str]
    template: ClassVar[AlignmentTemplate]
    """The framing of this domain's own training data; weights may carry another one."""
    resolution: ClassVar[int]
    """Crop size in pixels of this domain's own training data."""
    output_crop: ClassVar[tuple[float, float, float, float]] = WHOLE
    """Part of the square generator image that is picture: (left, top, right, bottom) as shares of its side.

    What lies outside it is black in training data and in crops (see stkit.alignment.frame_photo).
    """

    @abstractmethod
    def locate(self, photo: Image.Image) -> list[Subject]:
        """The subjects in an upright RGB photo, largest first, doubtful ones last; empty when there is none."""

    @abstractmethod
    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        """Crop-to-photo matrix [2, 3] that frames `subject` as `template` says (see stkit.alignment).

        Raises UsageError for a template kind that this domain cannot serve.
        """

    def subject_from_box(self, photo: Image.Image, box: tuple[float, float, float, float]) -> Subject:
        """The subject in a box (left, top, right, bottom) that the user gives, inside the upright RGB photo.

        Raises UsageError for domains that need more than a box, which is the default.
        """
        raise UsageError(f"the domain '{self.name}' cannot find a {self.noun} from a box alone; give --landmarks")

    def subject_from_landmarks(self, photo: Image.Image, landmarks: np.ndarray) -> Subject:
        """The subject with these landmarks [N, 2] in photo pixels, in the domain's own order.

        Raises UsageError for a number of points that the domain does not know; by default for any.
        """
        raise UsageError(f"the domain '{self.name}' takes no landmarks; give --box")

    def load_embedder(self, template: AlignmentTemplate, device: torch.device) -> Callable[[Tensor], Tensor] | None:
        """A differentiable network that tells subjects apart, for the identity loss; None when the domain has none.

        It takes crops [B, 3, H, W] in [-1, 1] framed as `template` says and gives unit vectors [B, D].
        """
        return None


class BoxDomain(Domain):
    """A domain without a detector: the subject is the whole photo, or a box that the user gives.

    The template is of kind "box". `max_cut` is the share (0 to 1) of the box's width or height that may
    be cut away where its shape is not the picture's; what is then still missing is the photo around the
    box, mirrored at the photo's borders.
    """

    max_cut: ClassVar[float]

    def locate(self, photo: Image.Image) -> list[Subject]:
        """One subject, the whole photo."""
        return [box_subject((0.0, 0.0, float(photo.width), float(photo.height)))]

    def subject_from_box(self, photo: Image.Image, box: tuple[float, float, float, float]) -> Subject:
        """The subject in a box (left, top, right, bottom) that the user gives."""
        return box_subject(box)

    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        """Crop-to-photo matrix [2, 3] that fits the box to the template's picture by uniform scale.

        Raises UsageError for a template of another kind.
        """
        from stkit.alignment import box_transform

        if template.kind != "box" or len(template.points) != 2:
            raise UsageError(
                f"the domain '{self.name}' fits boxes, but these weights are framed by '{template.kind}'; "
                "use weights that were trained with this domain"
            )
        return box_transform(subject.box, template, resolution, self.max_cut)


def box_subject(box: tuple[float, float, float, float]) -> Subject:
    """The subject in a box (left, top, right, bottom) of photo pixels, without landmarks."""
    import numpy as np

    return Subject(box, np.empty((0, 2)), 1.0)


def picture_box(output_crop: tuple[float, float, float, float], resolution: int) -> tuple[int, int, int, int]:
    """`output_crop` in whole pixels (left, top, right, bottom) of a square of `resolution`."""
    left, top, right, bottom = (round(share * resolution) for share in output_crop)
    return left, top, right, bottom


__all__ = ["WHOLE", "AlignmentTemplate", "BoxDomain", "Domain", "Subject", "box_subject", "picture_box"]
