"""The editor, the steps of an edit, refinement after an encoder, and what an edit or inversion gives back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkit.editor.editor import Editor, load


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stkit.editor' has no attribute '{name}'")
    return getattr(importlib.import_module("stkit.editor.editor"), name)


__all__ = ["Editor", "load"]
