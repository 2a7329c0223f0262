"""The domain contract: what a domain (faces, cars) is and how its subjects are found in a photo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stkit.contracts.framing import WHOLE, AlignmentTemplate
from stkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor


DEFAULT_DOMAIN = "faces"
"""What photos show where nothing says otherwise."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject found in a photo.

    `box` is (left, top, right, bottom) in photo pixels, `landmarks` [N, 2] in photo pixels (x, y)
    in the domain's own order, `score` the detector's confidence (higher is surer). `problems` say
    what speaks against it, each with its measure ("turned by 50 degrees (35 at most)"); a `doubtful` one
    may be none at all, and is only taken when asked for by number or place, or when there is no other. `detector`
    names what found it, where a domain has several; empty for places that a user gives.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float
    problems: tuple[str, ...] = ()
    doubtful: bool = False
    detector: str = ""

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
    preferred_weights: ClassVar[tuple[str, ...]] = ()
    """Better ones, best first, which not everybody has: the first that is there, with an inverter, is the default."""
    template: ClassVar[AlignmentTemplate]
    """The framing of this domain's own training data; weights may carry another one."""
    resolution: ClassVar[int]
    """Crop size in pixels of this domain's own training data."""
    output_crop: ClassVar[tuple[float, float, float, float]] = WHOLE
    """Part of the square generator image that is picture: (left, top, right, bottom) as shares of its side.

    What lies outside it is black in training data and in crops (see stkit.photo.alignment.frame_photo).
    """

    searches: ClassVar[bool] = True
    """Whether `locate` looks for subjects; otherwise the photo as it is counts as one."""

    @abstractmethod
    def locate(self, photo: Image.Image) -> list[Subject]:
        """The subjects in an upright RGB photo, largest first, doubtful ones last; empty when there is none."""

    def locate_quickly(self, photo: Image.Image) -> list[Subject]:
        """As `locate`, for the frames of a clip and pictures by the thousand: without searches that take seconds."""
        return self.locate(photo)

    @abstractmethod
    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        """Crop-to-photo matrix [2, 3] that frames `subject` as `template` says (see stkit.photo.alignment).

        Raises UsageError for a template kind that this domain cannot serve.
        """

    def imported_template(self, resolution: int) -> AlignmentTemplate:
        """The framing that other projects' generators of this domain have at that resolution; by default `template`."""
        return self.template

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


__all__ = ["DEFAULT_DOMAIN", "Domain", "Subject"]
