"""What edits are called in the names of their files."""

from __future__ import annotations

import itertools

import pytest

from stkit.editor.steps import EditStep, chain_label
from stkit.files import safe_name


def test_ordinary_edits_are_called_as_they_are_written() -> None:
    steps = [EditStep("interfacegan", "smile", 1.5), EditStep("stylespace", "5_12.3", -2), EditStep("reference")]
    assert chain_label(steps) == "interfacegan-smile+1.5_stylespace-5_12.3-2_reference+1"


@pytest.mark.parametrize("attribute", ["a/../../b", "..", "a\\b", "C:x", "x\0\n", "y" * 300, "\u65e5" * 90, "\ud800"])
def test_attributes_of_any_name_stay_in_a_file_name(attribute: str) -> None:
    step = EditStep("label", attribute, 2.0)
    assert safe_name(step.name) == step.name or "~" in step.name
    for name in (step.name, chain_label([step]), chain_label([step] * 40)):
        assert not set(name) & set("/\\:\0\n") and not name.startswith(".") and len(name.encode()) <= 120


def test_edits_that_differ_are_called_otherwise() -> None:
    attributes = [
        "a b",
        "a-b",
        "a/b",
        "a:b",
        "y" * 300 + "1",
        "y" * 300 + "2",
        "\u65e5" * 90 + "1",
        "\u65e5" * 90 + "2",
    ]
    steps = [EditStep("label", attribute) for attribute in attributes]
    long = [EditStep("ganspace", f"pc{i}") for i in range(20)]
    chains = [[step] for step in steps] + [[*long, step] for step in steps]
    for one, other in itertools.combinations(chains, 2):
        assert chain_label(one) != chain_label(other)
