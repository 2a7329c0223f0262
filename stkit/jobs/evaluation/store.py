"""What was computed of one system so far, on disk: pictures, codes, and a line of values a photo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stkit.errors import OutputError, UsageError
from stkit.files import safe_name, write_text
from stkit.latents.latents import Latents, load_latents, save_latents
from stkit.photo.images import load_photo, save_image, to_image, to_tensor

RECONSTRUCTION = "reconstruction"


class Store:
    """A folder with the results of one system.

    Lines are added to `values.jsonl` photo by photo; one that was cut short is dropped. A picture is there when its
    file is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values: dict[tuple[str, str], dict[str, float]] = {}
        self._read()

    def claim(self, facts: Mapping[str, Any]) -> None:
        """Note what the results are of. Raises UsageError when some of it was otherwise."""
        path = self.folder / "of.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for name, fact in facts.items():
            if known.get(name, fact) != fact:
                raise UsageError(
                    f"{self.folder} holds results of another {name} ({known[name]}, now {fact}); choose another --out, "
                    "or delete that folder"
                )
        write_text(path, json.dumps({**known, **facts}, indent=1))

    def values(self, what: str, photo: str) -> Mapping[str, float]:
        """All numbers of one picture, by name."""
        return self._values.get((what, photo), {})

    def add(self, what: str, photo: str, values: Mapping[str, float]) -> None:
        """Add numbers of one picture. Raises OutputError."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, "photo": photo, "values": dict(values)}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}; make room and start again") from error
        self._values.setdefault((what, photo), {}).update(values)

    def has_picture(self, what: str, photo: str) -> bool:
        """Whether the picture is there."""
        return self._picture(what, photo).exists()

    def save_picture(self, what: str, photo: str, image: torch.Tensor) -> None:
        """Keep a picture [3, H, W] in [-1, 1], in 8 bits."""
        save_image(to_image(image), self._picture(what, photo))

    def pictures(self, what: str, photos: Sequence[str]) -> torch.Tensor:
        """Pictures [B, 3, H, W] in [-1, 1]."""
        return torch.cat([to_tensor(load_photo(self._picture(what, photo)).image) for photo in photos])

    def save_codes(self, photo: str, latents: Latents) -> None:
        """Keep the codes of one photo, with the generator that was tuned for them."""
        save_latents(latents, self._codes(photo))

    def codes(self, photo: str) -> Latents:
        """The codes of one photo."""
        return load_latents(self._codes(photo))

    @property
    def _path(self) -> Path:
        return self.folder / "values.jsonl"

    def _picture(self, what: str, photo: str) -> Path:
        return self.folder / safe_name(what) / f"{safe_name(photo)}.png"

    def _codes(self, photo: str) -> Path:
        return self.folder / "codes" / f"{safe_name(photo)}.safetensors"

    def _read(self) -> None:
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").split("\n")
        for line in lines[:-1]:
            row = json.loads(line)
            self._values.setdefault((row["what"], row["photo"]), {}).update(row["values"])
        if lines[-1]:
            write_text(self._path, "".join(line + "\n" for line in lines[:-1]))


__all__ = ["RECONSTRUCTION", "Store"]
