"""Old module paths still work for one version, and say where the module is now."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from stkit.checkpoints.reading import read_checkpoint
from stkit.editor.refinement import refinements_of
from stkit.errors import UsageError
from stkit.moved import MOVED, RENAMED, REPLACED
from stkit.photo.reading import load_photo
from stkit.plugins import load_plugins
from tests.checkpoints.writers import make_generator, write_nvidia, write_tf

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_path_works_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning) as warned:
        module = importlib.import_module(old)
    sys.modules.pop(old)
    (warning,) = [str(entry.message) for entry in warned]
    for home in MOVED[old]:
        assert home in warning
        found = importlib.import_module(home)
        for name in found.__all__:
            assert f"{old}.{name}" in REPLACED or getattr(module, name) is getattr(found, name)


def test_the_warning_names_the_line_that_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = min(MOVED)
    monkeypatch.delitem(sys.modules, old, raising=False)
    (tmp_path / "stranger.py").write_text(f"import {old}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(DeprecationWarning) as warned:
        importlib.import_module("stranger")
    del sys.modules["stranger"], sys.modules[old]
    assert Path(warned[0].filename).name == "stranger.py"


def test_nothing_lies_at_an_old_path() -> None:
    for old, homes in MOVED.items():
        path = ROOT / old.replace(".", "/")
        assert not path.with_suffix(".py").exists() and not path.is_dir()
        for home in homes:
            root = ROOT if home.startswith("stkit.") else ROOT / "plugins"
            assert (root / home.replace(".", "/")).with_suffix(".py").is_file()


def import_silently(module: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(module)


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_old_name_works_and_warns(old: str) -> None:
    name, _, last = old.rpartition(".")
    module = import_silently(name)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {RENAMED[old]};") as warned:
        assert getattr(module, last) is pkgutil.resolve_name(RENAMED[old])
    assert name in MOVED or warned[0].filename == __file__


def replaced(old: str) -> Any:
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is now {REPLACED[old][0]};"):
        return getattr(import_silently(module), name)


def test_old_names_do_what_they_did_where_something_else_does_it_now(portrait: Path, tmp_path: Path) -> None:
    photo = load_photo(portrait).image.tobytes()
    assert replaced("stkit.training.data.read_rgb")(portrait.read_bytes()).tobytes() == photo
    with Image.open(portrait) as image:
        image.getexif()[0x0112] = 3
        turned = replaced("stkit.images.upright_rgb")(image)
    assert turned.transpose(Image.Transpose.ROTATE_180).tobytes() == photo
    with pytest.raises(UsageError, match="--face '3,4' is for one photo"):
        replaced("stkit.batch_inversion.require_any_photos_face")("3,4")
    qualities = replaced("stkit.refinement.QUALITIES")
    assert list(qualities) == ["fast", "balanced", "best"] and qualities["fast"] == ()
    assert qualities["best"] == refinements_of(load_plugins(), "best", None)

    generator = make_generator()
    config = generator.config
    sizes = (config.z_dim, config.w_dim, config.mapping_layers, config.channels(config.img_resolution))
    assert replaced("stkit.checkpoints.generators.make_config")(16, *sizes, config.channels(4)).img_resolution == 16
    nvidia = read_checkpoint(write_nvidia(tmp_path / "nvidia.pkl", generator)).content["G_ema"]
    tensors = dict(replaced("stkit.checkpoints.nvidia.module_tensors")(nvidia, "G."))
    assert "G.synthesis.b4.const" in tensors
    network = read_checkpoint(write_tf(tmp_path / "tf.pkl", generator)).content[-1]
    assert "synthesis/4x4/Const/const" in dict(replaced("stkit.checkpoints.nvidia_tf.network_variables")(network))


def test_every_public_name_of_the_time_before_the_moves_is_there() -> None:
    lines = (ROOT / "tests" / "goldens" / "names_before_the_move.txt").read_text().splitlines()
    assert len(lines) == 90
    for module, names in (line.split(": ") for line in lines):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "stkit.* is now ", DeprecationWarning)
            found = importlib.import_module(module)
            missing = [name for name in names.split() if not hasattr(found, name)]
        assert not missing, f"{module} lacks {missing}"


def test_what_plugins_decide_now_still_has_its_old_names() -> None:
    from stkit.editor import refinement, steps

    with pytest.warns(DeprecationWarning, match="PREFERRED is now the `preference` of each method"):
        assert steps.PREFERRED[:2] == ("interfacegan", "label")
    with pytest.warns(DeprecationWarning, match="quality_refinements is now refinements_of"):
        assert refinement.quality_refinements("fast", ["pti:3"]) == ("pti:3",)
