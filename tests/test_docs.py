"""What the guides show works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stkit.testing import check_editing_method
from stkit.weights import Weights

DOCS = Path(__file__).parent.parent / "docs"


def test_the_plugin_guides_method_keeps_the_contract(tiny_weights: Weights) -> None:
    code = re.search(r"```python\n(.*?)```", (DOCS / "guides" / "plugins.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code.group(1), names)
    (method,) = names["register_editing_methods"]()
    check_editing_method(method, tiny_weights)


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md"]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
