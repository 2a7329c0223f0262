"""The Style Transformer inverter (Hu et al., CVPR 2022) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit import hookimpl
from stkit.contracts.inversion import Inverter


@hookimpl
def register_inverters() -> Sequence[Inverter]:
    """The one inverter of this package."""
    from stkit_style_transformer.inverter import StyleTransformerInverter

    return [StyleTransformerInverter()]


__all__ = ["register_inverters"]
