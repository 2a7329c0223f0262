"""What was computed of one system so far, in memory or on disk: pictures, codes, and values of each photo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stkit.errors import OutputError, UsageError
from stkit.files import MOST_LINES, left_by_a_run, parse_json, read_left, read_text, safe_name, write_text
from stkit.latents.latents import Latents, load_latents, save_latents
from stkit.photo.images import save_image, to_image, to_tensor
from stkit.photo.reading import load_photo

RECONSTRUCTION = "reconstruction"


Values = dict[str, dict[str, float]]
"""Numbers of all photos together, by picture and name."""


class Store:
    """The results of one system, in memory."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[str, float]] = {}
        self._sets: tuple[list[str], Values] = ([], {})
        self._images: dict[tuple[str, str], torch.Tensor] = {}
        self._latents: dict[str, Latents] = {}

    def claim(self, facts: Mapping[str, Any]) -> None:
        """Note what the results are of. Raises UsageError when some of it was otherwise."""

    def values(self, what: str, photo: str) -> Mapping[str, float]:
        """All numbers of one picture, by name."""
        return self._values.get((what, photo), {})

    def add(self, what: str, photo: str, values: Mapping[str, float]) -> None:
        """Add numbers of one picture. Raises OutputError."""
        self._values.setdefault((what, photo), {}).update(values)

    def sets(self, photos: Sequence[str]) -> Values:
        """Numbers of all `photos` together; empty where they are of other photos."""
        known, values = self._sets
        return values if known == list(photos) else {}

    def save_sets(self, photos: Sequence[str], values: Values) -> None:
        """Keep numbers of all `photos` together, in place of those that are there. Raises OutputError."""
        self._sets = list(photos), values

    def has_picture(self, what: str, photo: str) -> bool:
        """Whether the picture is there."""
        return (what, photo) in self._images

    def save_picture(self, what: str, photo: str, image: torch.Tensor) -> None:
        """Keep a picture [3, H, W] in [-1, 1], in 8 bits. Raises OutputError."""
        self._images[what, photo] = image.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()

    def pictures(self, what: str, photos: Sequence[str]) -> torch.Tensor:
        """Pictures [B, 3, H, W] in [-1, 1]."""
        return torch.stack([self._images[what, photo] for photo in photos]).float().div(127.5).sub(1)

    def save_codes(self, photo: str, latents: Latents) -> None:
        """Keep the codes of one photo, with the generator that was tuned for them. Raises OutputError."""
        self._latents[photo] = latents

    def codes(self, photo: str) -> Latents:
        """The codes of one photo."""
        return self._latents[photo]


class FolderStore(Store):
    """The results of one system in a folder.

    Lines are added to `values.jsonl` photo by photo, or to a file of its own by each writer that has a name; one that
    was cut short is dropped. A picture is there when its file is.
    """

    def __init__(self, folder: Path, writer: str = "") -> None:
        super().__init__()
        self.folder = folder
        self.writer = writer
        for path in sorted(folder.glob("values*.jsonl")):
            self._read(path)

    def claim(self, facts: Mapping[str, Any]) -> None:
        path = self.folder / "of.json"
        known = read_left(path) if path.exists() else {}
        for name, fact in facts.items():
            if known.get(name, fact) != fact:
                raise UsageError(
                    f"{self.folder} holds results of another {name} ({known[name]}, now {fact}); choose another --out, "
                    "or delete that folder"
                )
        write_text(path, json.dumps({**known, **facts}, indent=1))

    def add(self, what: str, photo: str, values: Mapping[str, float]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, "photo": photo, "values": dict(values)}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}; make room and start again") from error
        super().add(what, photo, values)

    def sets(self, photos: Sequence[str]) -> Values:
        path = self.folder / "sets.json"
        if path.exists():
            found = read_left(path)
            with left_by_a_run(path):
                if not isinstance(found.get("photos"), list) or not isinstance(found.get("values"), dict):
                    raise ValueError("no photos or values in it")
            self._sets = found["photos"], found["values"]
        return super().sets(photos)

    def save_sets(self, photos: Sequence[str], values: Values) -> None:
        write_text(self.folder / "sets.json", json.dumps({"photos": list(photos), "values": values}))

    def has_picture(self, what: str, photo: str) -> bool:
        return self._picture(what, photo).exists()

    def save_picture(self, what: str, photo: str, image: torch.Tensor) -> None:
        save_image(to_image(image), self._picture(what, photo))

    def pictures(self, what: str, photos: Sequence[str]) -> torch.Tensor:
        return torch.cat([to_tensor(load_photo(self._picture(what, photo)).image) for photo in photos])

    def save_codes(self, photo: str, latents: Latents) -> None:
        save_latents(latents, self._codes(photo))

    def codes(self, photo: str) -> Latents:
        return load_latents(self._codes(photo))

    @property
    def _path(self) -> Path:
        return self.folder / f"values{self.writer and f'-{self.writer}'}.jsonl"

    def _picture(self, what: str, photo: str) -> Path:
        return self.folder / safe_name(what) / f"{safe_name(photo)}.png"

    def _codes(self, photo: str) -> Path:
        return self.folder / "codes" / f"{safe_name(photo)}.safetensors"

    def _read(self, path: Path) -> None:
        with left_by_a_run(path):
            lines = read_text(path, MOST_LINES).split("\n")
            for line in lines[:-1]:
                row = parse_json(line)
                values = {str(name): float(value) for name, value in row["values"].items()}
                self._values.setdefault((str(row["what"]), str(row["photo"])), {}).update(values)
        if lines[-1] and not self.writer:  # others may be writing
            write_text(path, "".join(line + "\n" for line in lines[:-1]))


__all__ = ["RECONSTRUCTION", "FolderStore", "Store"]
