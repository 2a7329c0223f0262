"""The training of inverters: Style Transformers, and pSp, e4e and ReStyle in about the same size."""

from __future__ import annotations

from stkit.plugin import SILENT, InverterRecipe, RivalsRecipe, Trainer, Voice


class InverterTrainer(Trainer[InverterRecipe]):
    """The losses of the Style Transformer paper (Hu et al., CVPR 2022), and e4e's own (Tov et al., SIGGRAPH 2021)."""

    name = "inverter"
    description = "Train an inverter for a generator that stays as it is (L2, LPIPS, identity; e4e's own for e4e)."
    Config = InverterRecipe

    def train(self, config: InverterRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_inverter

        return train_inverter(config, voice)


class RivalsTrainer(Trainer[RivalsRecipe]):
    """Every kind of inverter by one budget, for a table that compares them."""

    name = "rivals"
    description = "Train Style Transformer, pSp, e4e and ReStyle alike, from nothing, to be compared by evaluate."
    Config = RivalsRecipe

    def train(self, config: RivalsRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_rivals

        return train_rivals(config, voice)


__all__ = ["InverterTrainer", "RivalsTrainer"]
