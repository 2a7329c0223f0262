"""What the pages show is there and works; what is generated is fresh."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stkit import hookspecs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "examples" / "stkit-example-plugin"
GENERATOR = ROOT / "examples" / "stkit-example-generator"
TUTORIAL = (DOCS / "plugins" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_the_tutorials_code_is_the_shipped_code() -> None:
    """Each block names its file, and a file's blocks together, in their order, are the file."""
    shown: dict[str, list[str]] = {}
    for language, title, code in BLOCK.findall(TUTORIAL):
        if language == "console":
            continue
        assert title, f"a block of the tutorial names no file:\n{code}"
        shown.setdefault(title, []).extend(lines(code))
    shipped = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert set(shown) == {path.relative_to(EXAMPLE).as_posix() for path in shipped}
    for title, code in shown.items():
        assert code == lines((EXAMPLE / title).read_text(encoding="utf-8")), title


@pytest.mark.parametrize("page", sorted((DOCS / "plugins").glob("add-*.md")), ids=lambda page: page.stem)
def test_how_tos_show_the_code_that_is_tested(page: Path) -> None:
    blocks = [found for found in BLOCK.findall(page.read_text(encoding="utf-8")) if found[0] != "console"]
    assert blocks
    for language, title, code in blocks:
        assert language in ("python", "toml") and title, f"a block of {page.name} names no file:\n{code}"
        assert code.strip("\n") in (GENERATOR / title).read_text(encoding="utf-8"), f"{page.name} shows another {title}"


def test_how_tos_show_all_of_the_plugins_functions() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "plugins").glob("add-*.md"))
    for path in (GENERATOR / "stkit_alias_free").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                assert str(ast.get_source_segment(source, node)) in shown, f"{path.name}: {node.name}"


def test_generated_pages_are_fresh() -> None:
    check = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


COMMAND = """
import stkit

@stkit.hookimpl
def register_commands(app):
    @app.command("{name}")
    def any_name(photo: str):
        '''Help of {name}.'''
"""


def test_commands_of_our_plugins_are_on_the_page_and_those_of_others_are_not(tmp_path: Path) -> None:
    for distribution, name in (("stkit", "palette"), ("stranger", "intrude")):
        info = tmp_path / f"{distribution}-9.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9\n")
        info.joinpath("entry_points.txt").write_text(f"[stkit]\n{name} = {name}_of_{distribution}\n")
        tmp_path.joinpath(f"{name}_of_{distribution}.py").write_text(COMMAND.format(name=name))
    code = "import sys; sys.path[:0] = sys.argv[1:]; import generate; print(generate.cli_page())"
    page = subprocess.run(
        [sys.executable, "-c", code, tmp_path, DOCS], capture_output=True, text=True, cwd=tmp_path, check=True
    ).stdout
    section = page.split("## stkit palette\n\n```text\n")[1].split("```")[0]
    assert "Usage: stkit palette [OPTIONS] {photo}" in section and "Help of palette." in section
    assert "intrude" not in page


def hooks() -> list[str]:
    return [name for name, thing in vars(hookspecs).items() if hasattr(thing, "stkit_spec")]


def test_all_hooks_are_known() -> None:
    assert {"register_editing_methods", "register_domains", "register_metrics", "register_commands"} <= set(hooks())


@pytest.mark.parametrize("name", hooks())
def test_every_hook_signature_is_documented(name: str) -> None:
    page = (DOCS / "plugins" / "hooks.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    hook = getattr(hookspecs, name)
    signature = inspect.signature(hook)
    assert f"def {name}{str(signature).replace(chr(39), '')}" in section
    text = inspect.getdoc(hook)
    assert text and text in section
    for parameter in signature.parameters:
        assert f"`{parameter}`" in text, f"the docstring of {name} says nothing about `{parameter}`"
    for contract in re.findall(r"Sequence\[(\w+)\]", str(signature)):
        assert f"\n## {contract}\n" in page


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert pages == named


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
