"""Domains without a detector: their subject is the whole photo, or a box that the user gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stkit.contracts.domains import Domain, Subject
from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class BoxDomain(Domain):
    """A domain without a detector: the subject is the whole photo, or a box that the user gives.

    The template is of kind "box". `max_cut` is the share (0 to 1) of the box's width or height that may
    be cut away where its shape is not the picture's; what is then still missing is the photo around the
    box, mirrored at the photo's borders.
    """

    max_cut: ClassVar[float]
    searches = False

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
        from stkit.photo.alignment import box_transform

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


__all__ = ["BoxDomain", "box_subject"]
