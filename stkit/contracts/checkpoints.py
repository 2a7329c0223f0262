"""The contract of checkpoint families: files of other projects that `stkit weights import` reads. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from stkit.checkpoints.layout import Recognised
    from stkit.checkpoints.reading import Checkpoint


class CheckpointFamily(ABC):
    """A family of checkpoint files. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def recognise(self, checkpoint: Checkpoint) -> Recognised | None:
        """What a file holds, told by its keys and shapes; None when it is of another family.

        Nothing in the file has been executed; tensors are read when a part is converted. Raises WeightsError for a
        file that is of this family, but cannot be used.
        """


__all__ = ["CheckpointFamily"]
