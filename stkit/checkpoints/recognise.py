"""Which kind of checkpoint a file is, told by its keys and shapes."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from torch import Tensor

from stkit.checkpoints import native, nvidia, nvidia_tf, psp_family, rosinality, style_transformer
from stkit.checkpoints.layout import Part, Recognised
from stkit.checkpoints.reading import Checkpoint, read_checkpoint, refuse_hostile
from stkit.checkpoints.unpickle import Record
from stkit.checkpoints.wrapping import unwrapped
from stkit.errors import WeightsError
from stkit.plugins import load_plugins

_FAMILIES = (native, style_transformer, psp_family, nvidia, nvidia_tf, rosinality)


def open_checkpoint(path: Path) -> tuple[Checkpoint, Recognised]:
    """A checkpoint file and what it is. Raises WeightsError when it cannot be read or is of no known kind."""
    checkpoint = read_checkpoint(path)
    return checkpoint, recognise(checkpoint)


def recognise(checkpoint: Checkpoint) -> Recognised:
    """What a checkpoint is. Raises WeightsError when it is of no known kind."""
    try:
        registry = load_plugins()
        readers = [family.recognise for family in _FAMILIES]
        readers += [family.recognise for family in registry.checkpoint_families.values()]
        readers += [architecture.recognise for architecture in registry.architectures.values()]
        for label, opened in unwrapped(checkpoint):
            found = next((found for read in readers if (found := read(opened)) is not None), None)
            if found is not None:
                parts = (
                    dataclasses.replace(part, convert=functools.partial(_convert, part, checkpoint.path))
                    for part in found.parts
                )
                facts = {**found.facts, "tensors": label} if label else found.facts
                return dataclasses.replace(found, parts=tuple(parts), facts=facts)
    except WeightsError as error:
        raise _named(error, checkpoint.path) from None
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise WeightsError(f"cannot use {checkpoint.path}: its keys are those of no real model ({error})") from None
    refuse_hostile(checkpoint)
    raise WeightsError(
        f"{checkpoint.path} is no checkpoint that stkit knows ({_outline(checkpoint.objects)}); known are StyleGAN2 "
        "generators of rosinality and NVIDIA, MobileStyleGAN as OpenVINO IR, pSp, e4e, ReStyle, the Style Transformer "
        "and stkit's own files"
    )


def _convert(part: Part, path: Path) -> dict[str, Tensor]:
    try:
        return part.convert()
    except WeightsError as error:
        raise _named(error, path) from None
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"cannot use {path}: its entries are those of no real model ({reason})") from error


def _named(error: WeightsError, path: Path) -> WeightsError:
    return error if str(path) in str(error) else WeightsError(f"cannot use {path}: {error}")


def _outline(content: Any) -> str:
    if isinstance(content, Record):
        return f"it holds one {content.name[:80]}"
    if not isinstance(content, dict):
        return f"it holds one {type(content).__name__}"
    keys = [str(key)[:40] for key in list(content)[:8]]
    return f"its keys: {', '.join(keys)}{', ...' if len(content) > 8 else ''}" if keys else "it is empty"


__all__ = ["open_checkpoint", "recognise"]
