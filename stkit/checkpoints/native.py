"""This project's own weights files."""

from __future__ import annotations

from stkit.checkpoints.layout import Part, Recognised
from stkit.checkpoints.reading import Checkpoint
from stkit.tensors import load_tensors
from stkit.weights import load_header


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """A safetensors file whose header stkit wrote. Raises WeightsError when it says what no such header says."""
    if checkpoint.container != "safetensors" or "stkit" not in checkpoint.content["metadata"]:
        return None
    header = load_header(checkpoint.path)
    part = Part(header.kind, header.architecture, header.config, lambda: load_tensors(checkpoint.path)[1], header)
    return Recognised(
        family="stkit",
        what=f"weights file of stkit: {header.architecture} {header.kind}",
        parts=(part,),
        facts={
            "domain": header.domain,
            "alignment": header.alignment.kind,
            "licence": header.licence,
            "generator": header.generator,
        },
    )


__all__ = ["recognise"]
