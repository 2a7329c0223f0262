"""The Style Transformer inverter (Hu et al., CVPR 2022) as a plugin, and the training of inverters."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Inverter, Trainer, hookimpl


@hookimpl
def register_inverters() -> Sequence[Inverter]:
    """The one inverter of this package."""
    from stkit_style_transformer.inverter import StyleTransformerInverter

    return [StyleTransformerInverter()]


@hookimpl
def register_trainers() -> Sequence[Trainer]:
    """The training of inverters, pSp, e4e and ReStyle among them, alone and beside each other."""
    from stkit_style_transformer.trainer import InverterTrainer, RivalsTrainer

    return [InverterTrainer(), RivalsTrainer()]


__all__ = ["register_inverters", "register_trainers"]
