"""What a direction is kept orthogonal to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stkit.plugin import AttributeSpec, LatentSpace, UsageError, find_direction

if TYPE_CHECKING:
    from stkit.plugin import Editor


def what_to_keep(
    editor: Editor, specs: list[AttributeSpec], columns: list[str], space: LatentSpace
) -> tuple[list[AttributeSpec], dict[str, np.ndarray]]:
    """What to stay orthogonal to: columns of the labels where they have it, otherwise saved directions."""
    from_labels, saved = [], {}
    for spec in specs:
        direction = None if spec.column in columns else find_direction(editor.weights, spec.column)
        if direction is None:
            from_labels.append(spec)  # a name that is neither is reported with the columns that there are
        elif direction.space is not space:
            raise UsageError(f"direction '{direction.name}' is in {direction.space}, and this fit in {space}")
        else:
            saved[spec.column] = direction.vector.double().numpy()
    return from_labels, saved


__all__ = ["what_to_keep"]
