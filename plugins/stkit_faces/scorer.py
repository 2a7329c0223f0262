"""Pose and mouth from landmarks: labels for a generator's own samples without a trained judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Options, Scorer

if TYPE_CHECKING:
    import numpy as np
    import torch


class LandmarkScorer(Scorer[Options]):
    """Ratios of iBUG 300-W's 68 landmarks (stkit_faces.landmarks), in shares of the distance between the eyes.

    - `yaw`: how far the tip of the nose is from the middle between the edges of the jaw at its height; positive: the
      nose points to the right of the image.
    - `mouth-width`: between the corners of the mouth; smiles are wide.
    - `mouth-open`: between the inner lips.
    """

    name = "face-landmarks"
    description = "faces: yaw, mouth-width and mouth-open from 68 landmarks"

    def score(self, images: torch.Tensor, options: Options) -> dict[str, np.ndarray]:
        """float64 [B] each, NaN where no face is found. Raises MissingPackageError without dlib."""
        import numpy as np

        from stkit.plugin import to_image
        from stkit_faces.landmarks import find_frontal_faces

        rows = []
        for image in images:
            faces = find_frontal_faces(to_image(image))
            rows.append(_ratios(faces[0].landmarks) if faces else np.full(3, np.nan))
        yaw, width, opened = np.array(rows, dtype=np.float64).T
        return {"yaw": yaw, "mouth-width": width, "mouth-open": opened}


def _ratios(points: np.ndarray) -> np.ndarray:
    """Yaw, mouth width and mouth opening of landmarks [68, 2]."""
    import numpy as np

    across = points[42:48].mean(0) - points[36:42].mean(0)
    scale = np.hypot(*across)
    axis = across / scale
    middle = points[[1, 2, 14, 15]].mean(0)
    yaw = (points[30] - middle) @ axis
    return np.array([yaw, (points[54] - points[48]) @ axis, np.hypot(*(points[66] - points[62]))]) / scale


__all__ = ["LandmarkScorer"]
