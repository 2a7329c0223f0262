"""The domain `objects`: one thing on a plain background, such as a flower, a coin or a shoe in a catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import AlignmentTemplate, Domain, Subject, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_DIFFERENT = 32  # of 255: what differs more from the background, in any channel, belongs to the thing
_MARGIN = 1.1  # side of the crop in longer sides of the thing


class Objects(Domain):
    """The box of everything that differs from the picture's border; it is framed by a square around the box."""

    name = "objects"
    description = "one thing on a plain background"
    noun = "object"
    default_weights = "objects"
    template = AlignmentTemplate("box")
    resolution = 128

    def locate(self, photo: Image.Image) -> list[Subject]:
        import numpy as np

        pixels = np.asarray(photo).astype(int)  # [H, W, 3]
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        different = np.abs(pixels - np.median(border, axis=0)).max(2) > _DIFFERENT
        if not different.any():
            return []
        rows, columns = np.flatnonzero(different.any(1)), np.flatnonzero(different.any(0))
        low = np.array([columns[0], rows[0]]) - 0.5  # a pixel reaches half a unit to each side
        high = np.array([columns[-1], rows[-1]]) + 0.5
        return [Subject((*low.tolist(), *high.tolist()), np.array([low, high]), score=float(different.mean()))]

    def transform(self, subject: Subject, template: AlignmentTemplate, resolution: int) -> np.ndarray:
        import numpy as np

        from stkit.plugin import quad_transform

        if template.kind != "box":
            raise UsageError(f"objects are framed by their box, not by a template of kind '{template.kind}'")
        low, high = subject.landmarks
        half_width = max(high - low) * _MARGIN / 2
        return quad_transform((low + high) / 2, np.array([half_width, 0.0]), resolution)
