"""Components of a generator as files: shipped beside it, or fitted once and kept in the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from stkit.plugin import OutputError, Weights, cache_folder, load_tensors, require_tensors, safe_name, save_tensors

logger = logging.getLogger("stkit")

ComponentsT = TypeVar("ComponentsT")


@dataclass(frozen=True)
class Stored(Generic[ComponentsT]):
    """Components of one `kind` of file; `make` builds them from its tensors, which are their fields by name.

    `shapes` are those of the tensors, as `stkit.tensors.require_tensors` takes them.
    """

    kind: str
    noun: str
    make: Callable[..., ComponentsT]
    shapes: Mapping[str, Sequence[int | str]]
    config: Mapping[str, Any]

    def find(self, weights: Weights) -> ComponentsT | None:
        """Those that are there already, beside the generator or in the cache. Raises WeightsError."""
        path = next((path for path in (weights.path(self.kind), self._cached(weights)) if path.exists()), None)
        return None if path is None else weights.keep(self.kind, lambda: self._read(path, weights))

    def load(self, weights: Weights, fit: Callable[[Weights], ComponentsT]) -> ComponentsT:
        """Those that are there, otherwise what `fit` gives, which goes to the cache. Raises WeightsError."""
        found = self.find(weights)
        return weights.keep(self.kind, lambda: self._fit(weights, fit)) if found is None else found

    def save(self, path: Path, components: ComponentsT, weights: Weights) -> None:
        """Write `components` as a weights file that carries the generator's fingerprint. Raises OutputError."""
        tensors = {name: value.clone() for name, value in vars(components).items()}
        save_tensors(path, tensors, weights.part_header(self.kind, self.kind, self.config))

    def _cached(self, weights: Weights) -> Path:
        suffix = self.kind.removeprefix("ganspace")
        return cache_folder() / "ganspace" / f"{safe_name(weights.fingerprint)}{suffix}.safetensors"

    def _fit(self, weights: Weights, fit: Callable[[Weights], ComponentsT]) -> ComponentsT:
        logger.info("fitting %s of %s (once)", self.noun, weights.name)
        components = fit(weights)
        try:
            self.save(self._cached(weights), components, weights)
        except OutputError as error:
            logger.warning("the components are not kept: %s", error)
        return components

    def _read(self, path: Path, weights: Weights) -> ComponentsT:
        header, tensors = load_tensors(path)
        weights.require_generator(header, path)
        require_tensors(tensors, self.shapes, path)
        return self.make(**tensors)


__all__ = ["Stored"]
