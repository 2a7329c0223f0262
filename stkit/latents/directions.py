"""Directions in latent space: what one is, its file, where those of given weights lie, its unit of strength."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
import torch
from torch import Tensor

from stkit.errors import StkitError, UsageError, WeightsError, reason_of
from stkit.files import no_folders
from stkit.options import LatentSpace, LayerRange, first_fault
from stkit.tensors import load_tensors, require_tensors, save_tensors
from stkit.weights import Weights, load_header, user_folder

if TYPE_CHECKING:
    from stkit.contracts.editing import EditContext
    from stkit.latents.latents import Latents

logger = logging.getLogger("stkit")

KIND = "direction"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, eq=False)
class Direction:
    """A way through the latent space of one generator along which an attribute grows.

    `vector` has norm 1: [w_dim] in w, [num_ws, w_dim] in w_plus. Strength 1.0 is a step of `unit` along it: one
    standard deviation of the coordinates of the domain's own latents, of which `safe_range` holds the middle 99%.
    `layers` are those it was fitted for (None: all), `generator` is its code space (`Weights.space`), and `notes` say
    where it comes from: label file, counts, held-out accuracy, ...
    """

    name: str
    description: str
    vector: Tensor
    space: LatentSpace
    generator: str
    unit: float
    safe_range: tuple[float, float]
    layers: LayerRange | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        dims = {LatentSpace.W: 1, LatentSpace.W_PLUS: 2}[self.space]
        if self.vector.ndim != dims:
            raise WeightsError(
                f"direction '{self.name}' is said to be in {self.space} and has the shape {tuple(self.vector.shape)}"
            )
        norm = float(self.vector.norm())
        if not abs(norm - 1) < 1e-3 or not 0 < self.unit < float("inf"):
            raise WeightsError(f"direction '{self.name}' has norm {norm:g} and unit {self.unit:g}; fit it again")

    def move(self, codes: Tensor, strength: float, layers: Sequence[int]) -> Tensor:
        """w_plus `codes` [B, num_ws, w_dim] moved by `strength` in `layers`; a new tensor."""
        moved, layers = codes.clone(), list(layers)
        vector = self.vector.to(codes)
        moved[:, layers] += strength * self.unit * (vector if self.space is LatentSpace.W else vector[layers])
        return moved

    def edit(self, latents: Latents, context: EditContext, method: str) -> Latents:
        """`latents` moved in the layers of `context`, or else in those that the direction was fitted for."""
        layers = context.layers or self.layers
        indices = layers.indices(context.weights.num_ws) if layers else range(context.weights.num_ws)
        codes = self.move(latents.codes, context.strength, indices)
        return latents.replace(codes, edit=f"{method}:{self.name}={context.strength:+g}")

    def require_fit(self, weights: Weights) -> None:
        """Raise WeightsError, naming both sides, unless this direction belongs to the generator of `weights`."""
        if self.generator != weights.space:
            raise WeightsError(
                f"direction '{self.name}' belongs to generator {self.generator[:12]}, but weights '{weights.name}' "
                f"have generator {weights.space[:12]}; fit it again with these weights"
            )
        require_shape(self.name, self.vector, weights)
        if self.layers and self.layers.last >= weights.num_ws:
            raise WeightsError(
                f"direction '{self.name}' is for layers {self.layers}, but weights '{weights.name}' have layers "
                f"0-{weights.num_ws - 1}; fit it again with these weights"
            )


class _Config(pydantic.BaseModel):
    """What the header of a direction's file says of it."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    description: Annotated[str, pydantic.Field(max_length=1000)]
    space: Literal["w", "w_plus"]
    unit: float
    safe_range: Annotated[list[float], pydantic.Field(min_length=2, max_length=2)]
    layers: Annotated[str, pydantic.Field(max_length=20)] | None


def check_name(name: str) -> None:
    """Raise UsageError unless `name` can be the name of a direction (and of its file)."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a direction; use up to 100 letters, digits, - and _ (--name)")


def require_shape(name: str, vector: Tensor, weights: Weights) -> None:
    """Raise WeightsError, naming both sides, unless `vector` is [w_dim] or [num_ws, w_dim] of `weights`."""
    if tuple(vector.shape) not in {(weights.w_dim,), (weights.num_ws, weights.w_dim)}:
        layers = f"{vector.shape[0]} layers of " if vector.ndim == 2 else ""
        raise WeightsError(
            f"direction '{name}' has {layers}width {vector.shape[-1]}, but weights '{weights.name}' have "
            f"{weights.num_ws} layers of width {weights.w_dim}; use it with the generator it was made for"
        )


def save_direction(path: Path, direction: Direction, weights: Weights) -> None:
    """Write `direction` as a file of `weights`. Raises OutputError, and WeightsError when it does not fit them."""
    direction.require_fit(weights)
    config = {
        "name": direction.name,
        "description": direction.description,
        "space": str(direction.space),
        "unit": direction.unit,
        "safe_range": list(direction.safe_range),
        "layers": str(direction.layers) if direction.layers else None,
    }
    header = weights.part_header(KIND, KIND, config, direction.notes)
    save_tensors(path, {"vector": direction.vector.float()}, header)


def load_direction(path: Path) -> Direction:
    """Read a file that `save_direction` wrote. Raises WeightsError when it is anything else."""
    header, tensors = load_tensors(path)
    if header.architecture != KIND or set(tensors) != {"vector"}:
        raise WeightsError(f"{path} is a {header.kind} ({header.architecture}), not a direction")
    require_tensors(tensors, {"vector": ["D"] if tensors["vector"].ndim == 1 else ["L", "D"]}, path)
    try:
        config = _Config.model_validate(dict(header.config))
        return Direction(
            name=config.name,
            description=config.description,
            vector=tensors["vector"].float(),
            space=LatentSpace(config.space),
            generator=header.code_space,
            unit=config.unit,
            safe_range=(config.safe_range[0], config.safe_range[1]),
            layers=LayerRange.parse(config.layers) if config.layers else None,
            notes=header.notes,
        )
    except pydantic.ValidationError as error:
        raise WeightsError(f"{path} does not describe a direction: {first_fault(error)}; fit it again") from error
    except (ValueError, UsageError) as error:
        raise WeightsError(f"{path} does not describe a direction ({reason_of(error)}); fit it again") from error


def own_folder(weights: Weights) -> Path:
    """Where a user's own directions for `weights` are kept."""
    return user_folder() / weights.name


def find_files(weights: Weights, kind: str) -> dict[str, Path]:
    """Name and path of the files `KIND-NAME.safetensors` that belong to `weights`: the user's own, then shipped ones.

    Of several with one name the first that belongs to this generator is taken; where none does, the first,
    so that loading it says so.
    """
    found: dict[str, Path] = {}
    fits: set[str] = set()
    for folder in dict.fromkeys((own_folder(weights), *weights.folders)):
        for path in no_folders(folder, f"{kind}-*.safetensors"):
            name = path.stem.removeprefix(f"{kind}-")
            if name not in fits:
                if _belongs(path, weights):
                    fits.add(name)
                    found[name] = path
                found.setdefault(name, path)
    return dict(sorted(found.items()))


def _belongs(path: Path, weights: Weights) -> bool:
    def read() -> bool:
        try:
            return weights.fits(load_header(path))
        except StkitError:
            return False

    return weights.keep(("belongs", path, _changed(path)), read)


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None  # a broken link, which reading tells of


def file_of(weights: Weights, name: str | None, kind: str = KIND) -> list[Path]:
    """The file `KIND-NAME.safetensors` of `find_files`; none when it is not there."""
    path = find_files(weights, kind).get(name or "")
    return [path] if path else []


def find_direction(weights: Weights, name: str, kind: str = KIND) -> Direction | None:
    """The direction `name` of `weights`, None when there is none. Raises WeightsError when it does not fit."""
    path = find_files(weights, kind).get(name)
    return None if path is None else _kept_direction(weights, path, kind)


def _kept_direction(weights: Weights, path: Path, kind: str) -> Direction:
    def read() -> Direction:
        direction = load_direction(path)
        direction.require_fit(weights)
        return direction

    return weights.keep((kind, path, _changed(path)), read)


def usable_directions(weights: Weights, wanted: str | None, kind: str = KIND) -> dict[str, Direction]:
    """All directions that fit `weights`, by name; others are logged once. Raises WeightsError if `wanted` is one."""
    found = {}
    for name, path in find_files(weights, kind).items():
        try:
            found[name] = _kept_direction(weights, path, kind)
        except WeightsError as error:
            if name == wanted:
                raise
            weights.keep(("left out", str(error)), partial(logger.warning, "%s", error))  # every edit asks; said once
    return found


def coordinates(codes: Tensor, vector: Tensor, layers: LayerRange | None = None) -> Tensor:
    """Where `codes` lie along `vector` [w_dim] or [num_ws, w_dim]: [B].

    Codes are w [B, w_dim] or w_plus [B, num_ws, w_dim]; in w_plus a vector of w is held against the mean of
    the codes over `layers` (None: all).
    """
    if codes.ndim == 3 and vector.ndim == 1:
        codes = codes[:, layers.first : layers.last + 1].mean(1) if layers else codes.mean(1)
    if codes.ndim == 2 and vector.ndim == 2:
        codes = codes[:, None].expand(-1, *vector.shape[:1], -1)
    return (codes.double() * vector.double()).flatten(1).sum(1)


def calibrate(coordinates: Tensor) -> tuple[float, tuple[float, float]]:
    """The standard deviation of `coordinates` [N], and the middle 99% of them in standard deviations."""
    unit = float(coordinates.std())
    if not unit > 1e-12:
        raise StkitError("the latents do not vary along this direction, so it has no unit of strength")
    low, high = middle_range((coordinates - coordinates.mean()) / unit).tolist()
    return unit, (round(low, 1), round(high, 1))


def middle_range(values: Tensor) -> Tensor:
    """The ends [2] of the middle 99% of `values` [N], or those [K, 2] of each column of `values` [N, K]."""
    return torch.quantile(values, torch.tensor([0.005, 0.995], dtype=values.dtype), dim=0).movedim(0, -1)


def row_signs(rows: Tensor) -> Tensor:
    """The signs [K, 1] of the entries largest in size of `rows` [K, D]: times them, a row has one sign only."""
    return rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()


__all__ = [
    "KIND",
    "Direction",
    "calibrate",
    "check_name",
    "coordinates",
    "file_of",
    "find_direction",
    "find_files",
    "load_direction",
    "middle_range",
    "own_folder",
    "require_shape",
    "row_signs",
    "save_direction",
    "usable_directions",
]
