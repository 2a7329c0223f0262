"""From crops to w_plus in one forward pass, like pSp."""

from __future__ import annotations

from stkit_psp.inverter import PSP


class E4E(PSP):
    """Tov et al., "Designing an Encoder for StyleGAN Image Manipulation" (e4e), SIGGRAPH 2021."""

    name = "e4e"
    description = "encoder: one w and small offsets from it, for edits that hold (Tov et al., SIGGRAPH 2021)"
    architecture = "e4e"


__all__ = ["E4E"]
