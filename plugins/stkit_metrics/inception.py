"""FID, for those who have Inception's weights: nothing is fetched."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from stkit.plugin import Metric, Options, UsageError
from stkit_metrics.missing import missing

if TYPE_CHECKING:
    import torch

_BATCH = 16
_FILE = "weights-inception-2015-12-05-6726825d.pth"


class FIDOptions(Options):
    """Options of fid."""

    weights: Path | None = pydantic.Field(
        default=None, description=f"Inception's weights as torch-fidelity has them; {_FILE} in torch's hub by default"
    )


class FIDMetric(Metric[FIDOptions]):
    """Frechet Inception distance (Heusel et al., NeurIPS 2017), by torch-fidelity's network."""

    name = "fid"
    description = "Frechet distance of Inception features (torch-fidelity), where its weights are at hand"
    higher_is_better = False
    Options = FIDOptions

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: FIDOptions) -> dict[str, float]:
        """`fid` of [N, 3, H, W] and [M, 3, H, W] in [-1, 1]. Raises UsageError, MissingPackageError."""
        import torch

        from stkit.plugin import frechet_distance

        network = _network(_weights_file(options.weights), str(images.device))

        def features(part: torch.Tensor) -> torch.Tensor:
            pixels = part.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
            return torch.cat([network(batch)[0] for batch in pixels.split(_BATCH)])

        with torch.no_grad():
            return {"fid": frechet_distance(features(images), features(references))}


def _weights_file(given: Path | None) -> Path:
    import torch

    path = given or Path(torch.hub.get_dir(), "checkpoints", _FILE)
    if not path.is_file():
        raise UsageError(
            f"there are no Inception weights at {path}; torch-fidelity publishes {_FILE}: give it with "
            "-o fid.weights=FILE"
        )
    return path


@functools.cache
def _network(path: Path, device: str) -> Any:
    import torch

    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise missing("fid", "torch-fidelity", "pip install torch-fidelity", error) from error
    try:
        torch.load(path, weights_only=True, map_location="cpu")  # torch-fidelity would run what else is in the file
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path} are no Inception weights of torch-fidelity: {reason}") from error
    return network.to(device)


__all__ = ["FIDMetric", "FIDOptions"]
