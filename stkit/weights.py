"""Weights: folders of safetensors files that describe themselves, found by name, checked, loaded strictly.

A weights folder holds `generator.safetensors`, usually `inverter.safetensors`, and whatever else
belongs to the generator. Each file's header says what it is (`stkit.headers`). Shipped folders are listed
with their hashes in `manifest.toml` beside them. Of `DOWNLOADS` the generator is fetched into the
user's folder, and the shipped folder of that name has the other parts. Reading headers needs no torch.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import platformdirs

from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import UnknownNameError, UsageError, WeightsError, reason_of
from stkit.files import atomic_path, file_sha256, no_folders, read_text
from stkit.headers import Header, load_header, note_number, read_metadata
from stkit.moved import renamed
from stkit.storage import as_float32
from stkit.tensors import load_tensors, state_shapes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import torch
    from torch import nn

    ModuleT = TypeVar("ModuleT", bound=nn.Module)
    T = TypeVar("T")

logger = logging.getLogger("stkit")

DOWNLOADS: Mapping[str, str] = {"ffhq": "38 MB"}
"""Weights whose generator `stkit weights download` fetches, and how much that is."""


@dataclass(frozen=True)
class Weights:
    """A weights folder: one file a kind (`generator`, `inverter`, ...), and what was loaded from it so far.

    `shipped` is a folder of stkit's with more parts for the same generator, which is not in it.
    """

    name: str
    folder: Path
    header: Header
    shipped: Path | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def domain(self) -> str:
        """The name of the domain these weights know."""
        return self.header.domain

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the generator: which pictures it makes."""
        return self.header.fingerprint

    @property
    def space(self) -> str:
        """What latents, inverters and directions for the generator are stamped with; generators may share it."""
        return self.header.code_space

    @property
    def alignment(self) -> AlignmentTemplate:
        """The framing of the crops that the generator was trained on."""
        return self.header.alignment

    @property
    def resolution(self) -> int:
        """Side of the generator's images in pixels."""
        return self.header.shape["img_resolution"]

    @property
    def num_ws(self) -> int:
        """Number of w vectors that steer the generator."""
        return self.header.shape["num_ws"]

    @property
    def w_dim(self) -> int:
        """Width of w."""
        return self.header.shape["w_dim"]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where parts are: the folder, then that of shipped ones, if any."""
        return (self.folder,) if self.shipped is None else (self.folder, self.shipped)

    def path(self, kind: str) -> Path:
        """Where the file of `kind` is, or would be: in the folder, or else among the shipped parts."""
        own = self.own_path(kind)
        shipped = None if os.path.lexists(own) else self._shipped_path(kind)
        return own if shipped is None else shipped

    def own_path(self, kind: str) -> Path:
        """Where a new file of `kind` belongs; shipped parts stay as they are, and give way to it."""
        return self.folder / f"{kind}.safetensors"

    def kinds(self) -> list[str]:
        """The kinds of file that are there."""
        found = {path.stem for folder in self.folders for path in no_folders(folder, "[!.]*.safetensors")}
        own = self.own_path
        return sorted(one for one in found if os.path.lexists(own(one)) or self._shipped_path(one) is not None)

    def _shipped_path(self, kind: str) -> Path | None:
        """A shipped part, unless its header says that it belongs to another generator of the same name."""
        path = None if self.shipped is None else self.shipped / f"{kind}.safetensors"
        if path is None or not path.exists():
            return None

        def belongs() -> bool:
            try:
                return self.fits(load_header(path))
            except WeightsError:
                return True  # a damaged file is told when it is opened

        return path if self.keep((path, path.stat().st_mtime_ns), belongs) else None

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once for each `key` and kept as long as these weights."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("T", self._kept[key])

    def generator(self, device: torch.device | str = "cpu") -> nn.Module:
        """Deprecated: `stkit.models.registry.load_generator` does it."""
        return _moved("stkit.models.registry", "load_generator")(self, device)

    def style_transformer(self, device: torch.device | str = "cpu") -> nn.Module:
        """Deprecated: `stkit.models.style_transformer.load_style_transformer` does it."""
        return _moved("stkit.models.style_transformer", "load_style_transformer")(self, device)

    def inverters(self) -> dict[str, str]:
        """Architecture and kind of the inverters: the weights' own is `inverter`, others are `inverter-NAME`.

        Of the others, files that are no weights are left out with a warning. Raises WeightsError when the own is none.
        """
        found = {}
        for kind in reversed(self.kinds()):
            if kind == "inverter" or kind.startswith("inverter-"):
                try:
                    found[load_header(self.path(kind)).architecture] = kind
                except WeightsError as error:
                    if kind == "inverter":
                        raise
                    self.keep(("left out", str(error)), partial(logger.warning, "%s", error))
        return found

    def own_inverter(self) -> str:
        """The architecture of the weights' own inverter, or of the first other. Raises WeightsError."""
        kinds = {kind: architecture for architecture, kind in self.inverters().items()}
        if not kinds:
            raise WeightsError(f"weights '{self.name}' have no inverter; train one: `stkit train inverter`")
        return kinds[min(kinds)]

    def inverter_kind(self, architecture: str) -> str:
        """The kind of file that holds the inverter of `architecture`. Raises WeightsError when there is none."""
        known = self.inverters()
        if architecture not in known:
            there = f"they have: {', '.join(sorted(known))}; name one of them" if known else "they have none"
            raise WeightsError(f"weights '{self.name}' have no {architecture} inverter; {there}")
        return known[architecture]

    def load(
        self,
        kind: str,
        architecture: str,
        build: Callable[[Mapping[str, Any]], ModuleT],
        device: torch.device | str = "cpu",
    ) -> ModuleT:
        """The model of `kind`, built by `build` from the header's config, loaded strictly, in eval mode.

        Raises WeightsError when the file is missing, damaged, of another architecture, or belongs to
        another generator. A model is loaded once for each device.
        """
        import torch

        @torch.inference_mode(False)  # parameters made in it can never be part of a graph again
        def read() -> ModuleT:
            path = self.path(kind)
            if not path.exists():
                raise WeightsError(f"weights '{self.name}' have no {kind}; they have: {', '.join(self.kinds())}")
            header, tensors = load_tensors(path)
            if header.architecture != architecture:
                raise WeightsError(f"{path} is a {header.architecture} {kind}, not a {architecture} one")
            self.require_generator(header, path)
            if any(value.is_complex() for value in tensors.values()):
                raise WeightsError(f"{path} holds complex numbers, which no network of stkit has")
            values = as_float32(tensors)
            there = {name: tuple(value.shape) for name, value in values.items()}
            for name, value in values.items():
                if not torch.isfinite(value).all():
                    raise WeightsError(f"{path} has numbers in {name} that are not finite; make it again")
            try:
                shapes = state_shapes(lambda: build(header.config), 8 * sum(map(math.prod, there.values())) + 2**22)
                if shapes != there:
                    name = min(name for name, _ in shapes.items() ^ there.items())
                    raise ValueError(f"{name} is {there.get(name, 'not there')} and not {shapes.get(name, 'needed')}")
                model = build(header.config)
            except UnknownNameError:
                raise
            except Exception as error:  # of what a config is, the model's own code finds out
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                raise WeightsError(f"{path} does not fit its own config: {reason}") from error
            model.load_state_dict(values)
            return model.eval().requires_grad_(False).to(device)

        return self.keep((kind, str(device)), read)

    def part_header(
        self, kind: str, architecture: str, config: Mapping[str, Any], notes: Mapping[str, Any] | None = None
    ) -> Header:
        """The header of a file that belongs to this generator: it shares its domain, alignment and licence."""
        return Header(
            kind=kind,
            architecture=architecture,
            config=config,
            domain=self.domain,
            alignment=self.alignment,
            licence=self.header.licence,
            generator=self.fingerprint,
            notes=notes or {},
            space=self.header.space,
        )

    def fits(self, header: Header) -> bool:
        """Whether a file with that header speaks of this generator's codes."""
        return header.code_space == self.space

    def require_generator(self, header: Header, path: Path) -> None:
        """Raise WeightsError unless the file at `path` speaks of this generator's codes."""
        if not self.fits(header):
            self._refuse(path, header.code_space, self.space)

    def require_pictures(self, header: Header, path: Path) -> None:
        """Raise WeightsError unless the file at `path` was made for this very generator, not for its codes alone."""
        if header.generator != self.fingerprint:
            self._refuse(path, header.generator, self.fingerprint)

    def _refuse(self, path: Path, theirs: str, ours: str) -> NoReturn:
        raise WeightsError(
            f"{path} belongs to generator {theirs[:12]}, but weights '{self.name}' have generator {ours[:12]}; make "
            "it again with these weights"
        )


def _moved(module: str, name: str) -> Callable[..., Any]:
    """The function that took the place of a method of `Weights`; weights themselves know no networks."""
    warnings.warn(f"loading networks moved to {module}.{name}(weights, device)", DeprecationWarning, stacklevel=3)
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))


def require_names(names: Sequence[Any]) -> None:
    """Raise UsageError for a config whose attributes are no different names."""
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UsageError("attributes of a config are different names, at least one")


def shipped_folder() -> Path:
    """Where the shipped weights are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """Where a user's own weights live: `$STKIT_HOME/weights`, or the platform's data folder."""
    home = os.environ.get("STKIT_HOME")
    return (Path(home) if home else platformdirs.user_data_path("stkit")) / "weights"


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$STKIT_HOME/cache`, or the platform's cache folder."""
    home = os.environ.get("STKIT_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("stkit")


def weights_names() -> dict[str, Path]:
    """Name and folder of all weights that can be found, damaged ones too; a user's own go before shipped ones."""
    folders: dict[str, Path] = {}
    for root in (shipped_folder(), user_folder()):
        for folder in sorted(root.glob("[!.]*")):
            path = folder / "generator.safetensors"  # where there is none, they are not finished
            broken_link = folder.is_symlink() and not folder.exists()
            if broken_link or (os.path.lexists(path) and not path.is_dir()):
                folders[folder.name] = folder
    return folders


def find_weights(name: str | Path) -> Weights:
    """Weights by name, or by the path of their folder: text with a separator, or a Path, which never is a name.

    A folder here without a separator is taken where no weights are called so. Raises UnknownNameError or WeightsError.
    """
    folder, names = Path(name), weights_names()
    is_path = not isinstance(name, str) or name in (".", "..") or "/" in name or os.sep in name
    here = (folder / "generator.safetensors").is_file()
    if not is_path and (name in names or name in DOWNLOADS):
        if here:
            logger.warning("weights '%s' are those of that name; for the folder here give .%s%s", name, os.sep, name)
        if name not in names:
            raise WeightsError(
                f"weights '{name}' are not downloaded yet; `stkit weights download {name}` ({DOWNLOADS[str(name)]}) "
                "gets them"
            )
        folder = names[str(name)]
    elif not here:
        raise UnknownNameError("weights", str(name), dict.fromkeys([*names, *DOWNLOADS]))
    header = load_header(folder / "generator.safetensors")
    if header.kind != "generator":
        raise WeightsError(f"{folder / 'generator.safetensors'} is a {header.kind}, not a generator")
    name = Path(os.path.abspath(folder)).name
    shipped = shipped_folder() / name
    return Weights(name, folder, header, shipped if folder.parent == user_folder() and shipped.is_dir() else None)


def verify_weights(weights: Weights) -> dict[str, str]:
    """For each file "ok", or what is wrong: hash against the manifest where it is listed, fingerprint in any case."""
    listed = {folder / name: sha256 for folder in weights.folders for name, sha256 in _listed(folder).items()}
    there = {path for folder in weights.folders for path in no_folders(folder, "[!.]*.safetensors")}
    report = {}
    for path in sorted({*listed, *there}):
        if path.parent != weights.folder and weights.own_path(path.stem).exists():
            continue  # a shipped part that has given way
        if not os.path.lexists(path):
            report[path.name] = "missing: it is in the manifest, but not there"
            continue
        try:
            if path in listed and file_sha256(path) != listed[path]:
                report[path.name] = "damaged: its hash is not the one in the manifest"
                continue
            header, _ = load_tensors(path)
            weights.require_generator(header, path)
            report[path.name] = "ok"
        except (OSError, WeightsError) as error:
            report[path.name] = str(error)
    return report


def write_manifest(root: Path) -> Path:
    """Write `manifest.toml` for all weights folders under `root`: sha256 of each file that is shipped.

    A generator of `DOWNLOADS` is not, though it may lie there while its parts are made. Raises OutputError.
    """
    lines = ["# sha256 of every file of the weights folders beside this file, written by `python -m stkit.weights`."]
    for folder in sorted({path.parent for path in root.glob("[!.]*/*.safetensors")}):
        lines += ["", f"[{folder.name}]"]
        fetched = {"generator.safetensors"} if folder.name in DOWNLOADS else set()
        paths = [path for path in sorted(folder.glob("[!.]*.safetensors")) if path.name not in fetched]
        lines += [f'"{path.name}" = "{file_sha256(path)}"' for path in paths]
    with atomic_path(root / "manifest.toml") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "manifest.toml"


def _listed(folder: Path) -> dict[str, str]:
    """The files of a weights folder that the manifest beside it lists, and their sha256."""
    path = folder.parent / "manifest.toml"
    if not path.is_file():
        return {}
    try:
        return dict(tomllib.loads(read_text(path)).get(folder.name, {}))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {reason_of(error)}") from error


__getattr__ = partial(renamed, __name__)


__all__ = [
    "DOWNLOADS",
    "Header",
    "Weights",
    "cache_folder",
    "find_weights",
    "load_header",
    "note_number",
    "read_metadata",
    "require_names",
    "shipped_folder",
    "user_folder",
    "verify_weights",
    "weights_names",
    "write_manifest",
]

if __name__ == "__main__":
    print(write_manifest(shipped_folder()))
