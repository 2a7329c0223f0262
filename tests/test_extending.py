"""A third party's plugin for real: wheels of stkit and plugins, in a virtual environment away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.contracts.framing import AlignmentTemplate
from stkit.latents.latents import load_latents, save_latents
from stkit.models.registry import load_generator
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import Weights, find_weights

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "stkit-example-plugin"

BLENDED = "grace.blend-mean+0.5"

BAD_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "stkit-zz-bad"
version = "1.0"

[project.entry-points.stkit]
bad-import = "zz_import"
bad-name = "zz_name"
bad-signature = "zz_signature"

[tool.hatch.build.targets.wheel]
include = ["*.py"]
"""
BAD_MODULES = {
    "zz_import": "raise RuntimeError('not today')",
    "zz_name": """
from stkit import hookimpl
from stkit_example.method import Blend
from stkit_faces import FacesDomain

@hookimpl
def register_editing_methods():
    return [Blend()]

@hookimpl
def register_domains():
    return [FacesDomain()]
""",
    "zz_signature": """
from stkit import hookimpl

@hookimpl
def register_metrics(everything):
    return []
""",
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own; dependencies come from the running one, stkit does not."""

    folder: Path

    @property
    def site(self) -> Path:
        return next(self.folder.glob("lib*/python*/site-packages"), self.folder / "Lib" / "site-packages")

    @property
    def programs(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def install(self, *wheels: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.programs / "python", "install", "--quiet"]
        run(*pip, "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", *wheels)

    def stkit(self, *arguments: object, cwd: Path) -> str:
        return run(self.programs / "stkit", *arguments, cwd=cwd)

    def python(self, *arguments: object, cwd: Path) -> str:
        return run(self.programs / "python", *arguments, cwd=cwd)


def run(*command: object, cwd: Path | None = None) -> str:
    """What the command prints; PYTHONPATH could bring the checkout back, so it is taken away."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command} ends with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(project: Path, folder: Path) -> Path:
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "--disable-pip-version-check", "--wheel-dir", folder, project)
    (wheel,) = folder.glob("*.whl")
    return wheel


def the_file(folder: Path, name: str) -> Path:
    """The one file of that name under `folder`."""
    (path,) = folder.rglob(name)
    return path


@pytest.fixture(scope="module")
def environment(stkit_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """stkit and the example plugin, installed from wheels."""
    folder = tmp_path_factory.mktemp("extending")
    example = build_wheel(EXAMPLE, folder / "wheels")
    made = Environment(folder / "venv")
    venv.create(made.folder, with_pip=False)
    made.install(stkit_wheel, example)  # first, or pip would see the checkout's stkit and be content with it
    # What a .pth file names is searched last, and the .pth files in there, such as the checkout's, are not read.
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (made.site / "dependencies.pth").write_text("\n".join(packages) + "\n")
    return made


def test_stkit_and_plugin_come_from_the_wheels(environment: Environment, tmp_path: Path) -> None:
    code = "import stkit, stkit_faces, stkit_example as x; print(stkit.__file__, stkit_faces.__file__, x.__file__)"
    files = environment.python("-c", code, cwd=tmp_path).split()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(environment.site) for file in files), files


def test_the_example_is_listed_with_what_it_gives(environment: Environment, tmp_path: Path) -> None:
    lines = environment.stkit("plugins", cwd=tmp_path).splitlines()
    (line,) = [line for line in lines if line.startswith("example ")]
    assert line.split(maxsplit=4)[1:4] == ["stkit-example-plugin", "0.1.0", "ok"]
    assert "editing method blend; domain objects; metric delta-e" in line
    assert "truncation" in environment.stkit("methods", "show", "blend", cwd=tmp_path)


def test_the_examples_method_edits_a_photo(environment: Environment, portrait: Path, tmp_path: Path) -> None:
    """With the weights that the wheel ships."""
    edit = ("edit", portrait, "--method", "blend", "--attribute", "mean", "--strength", 0.5)
    environment.stkit(*edit, cwd=tmp_path)
    edited, plain = (load_latents(the_file(tmp_path, name + ".latents.safetensors")) for name in (BLENDED, "grace"))
    assert edited.provenance[0].edits == ("blend:mean=+0.5",)
    mean = load_generator(find_weights("faces")).w_avg
    assert torch.allclose(edited.codes, (plain.codes + mean) / 2, atol=1e-5)
    edited_photo, photo = (Image.open(path) for path in (the_file(tmp_path, BLENDED + ".jpg"), portrait))
    assert edited_photo.size == photo.size
    assert edited_photo.tobytes() != photo.tobytes()


def test_the_examples_domain_finds_the_subject_of_its_own_weights(environment: Environment, tmp_path: Path) -> None:
    make_tiny_weights(tmp_path / "coins", domain="objects", alignment=AlignmentTemplate("box"))
    photo = Image.new("RGB", (300, 200), (240, 240, 235))
    photo.paste((150, 90, 40), (120, 60, 200, 140))
    photo.save(tmp_path / "coin.png")
    environment.stkit("invert", "coin.png", "--weights", tmp_path / "coins", cwd=tmp_path)
    (provenance,) = load_latents(the_file(tmp_path, "coin.latents.safetensors")).provenance
    matrix = np.array(provenance.transform)
    corners = matrix @ np.array([[-0.5, 15.5], [-0.5, 15.5], [1, 1]])  # of the 16 px crop, in the photo
    assert pytest.approx(np.array([[115.5, 55.5], [203.5, 143.5]])) == corners.T  # 80 px and a margin of 10%


def test_the_examples_own_tests_pass(environment: Environment, tmp_path: Path) -> None:
    tests = Path(shutil.copytree(EXAMPLE / "tests", tmp_path / "tests"))
    printed = environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=tmp_path)
    assert "4 passed" in printed


def test_bad_plugins_are_named_and_leave_everything_else_working(
    environment: Environment, tiny_weights: Weights, tmp_path: Path
) -> None:
    project = tmp_path / "bad"
    project.mkdir()
    (project / "pyproject.toml").write_text(BAD_PROJECT)
    for name, source in BAD_MODULES.items():
        (project / f"{name}.py").write_text(source)
    before = environment.stkit("methods", cwd=tmp_path)
    environment.install(build_wheel(project, tmp_path / "wheels"))
    printed = environment.stkit("plugins", cwd=tmp_path)
    table = {line.split()[0]: line.split()[3] for line in printed.splitlines() if ":" not in line.split()[0]}
    failed = [name for name, status in table.items() if status == "failed"]
    assert failed == ["bad-import", "bad-name", "bad-signature"]
    assert table["example"] == table["faces"] == "ok"
    for words in (
        ("bad-import: cannot be imported: RuntimeError: not today", "zz_import.py:1"),
        ("bad-name: editing method 'blend' of plugin 'bad-name' of stkit-zz-bad 1.0 is refused",
         "plugin 'example' of stkit-example-plugin 0.1.0 has that name already"),
        ("bad-name: domain 'faces' of plugin 'bad-name'", "plugin 'faces' of stkit 0.1.0 has that name already"),
        ("bad-signature: a hook has the wrong signature", "register_metrics", "everything"),
    ):  # fmt: skip
        assert any(all(word in line for word in words) for line in printed.splitlines()), printed
    assert environment.stkit("methods", cwd=tmp_path) == before
    save_latents(random_latents(tiny_weights, 1), tmp_path / "codes.safetensors")
    edit = ("edit", "codes.safetensors", "--weights", tiny_weights.folder, "--method", "blend", "--attribute", "random")
    environment.stkit(*edit, cwd=tmp_path)
    edited = load_latents(the_file(tmp_path, "codes.blend-random+1.latents.safetensors"))
    assert edited.provenance[0].edits[-1] == "blend:random=+1"
