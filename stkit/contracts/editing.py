"""The editing contract: from latent codes to edited latent codes."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from stkit.errors import UnknownNameError, UsageError
from stkit.options import LatentSpace, LayerRange, Options, OptionsT

if TYPE_CHECKING:
    import torch

    from stkit.latents.latents import Latents
    from stkit.weights import Weights


@dataclass(frozen=True)
class Attribute:
    """Something a method can change. `safe_range` is in units of strength (1.0 = one standard deviation)."""

    name: str
    description: str
    safe_range: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class EditContext:
    """What every method shares: the weights and the core flags of `stkit edit`.

    `references` holds the inverted `--ref` photos; `layers` is None when the method may choose.
    """

    weights: Weights
    device: torch.device
    attribute: str | None = None
    strength: float = 1.0
    layers: LayerRange | None = None
    references: Latents | None = None
    seed: int = 0

    def layer_indices(self, num_ws: int) -> list[int]:
        """The layers to edit: those of `layers`, otherwise all. Raises UsageError when they do not fit."""
        return list(self.layers.indices(num_ws) if self.layers else range(num_ws))


class EditingMethod(ABC, Generic[OptionsT]):
    """An editing method. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    paper: ClassVar[str]
    """Where the method comes from: authors, title, venue."""
    space: ClassVar[LatentSpace] = LatentSpace.W_PLUS
    """Deprecated, w_plus with the next version: a method of w edits no photo, whose codes are w_plus."""
    needs_reference: ClassVar[bool] = False
    preference: ClassVar[int] = 0
    """Which method `--edit NAME=STRENGTH` looks an attribute up in first: that of the highest number."""
    sampled_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of its files that a new mapping network makes untrue, since they describe the generator's samples."""
    Options: type[Options] = Options

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.space is LatentSpace.W:
            warnings.warn(
                f"{cls.__name__} edits codes of w, and those of photos are w_plus; give codes of w_plus, with the next "
                "version all methods do",
                DeprecationWarning,
                stacklevel=2,
            )

    @abstractmethod
    def attributes(self, context: EditContext) -> list[Attribute]:
        """What this method can change with the context's weights; empty when it takes no attribute."""

    @abstractmethod
    def edit(self, latents: Latents, options: OptionsT, context: EditContext) -> Latents:
        """Edited codes, same shape, space and order as `latents`; strength 0 gives the codes back."""

    def files(self, context: EditContext) -> Sequence[Path]:
        """The files, besides the generator, that decide what the edit of `context.attribute` is: a direction, ..."""
        return ()

    def prepare(self, weights: Weights, device: torch.device) -> None:
        """Write to the folder of newly trained weights what this method can make of them without labels.

        Called by `stkit train domain`. Raises StkitError when it cannot.
        """


def find_attribute(method: EditingMethod, context: EditContext) -> Attribute:
    """The attribute that `context` asks for; raises UsageError listing those that exist."""
    known = {attribute.name: attribute for attribute in method.attributes(context)}
    if context.attribute is None:
        raise UsageError(f"method '{method.name}' needs --attribute; there is: {', '.join(known) or 'none'}")
    if context.attribute not in known:
        raise UnknownNameError("attribute", context.attribute, known)
    return known[context.attribute]


__all__ = ["Attribute", "EditContext", "EditingMethod", "find_attribute"]
