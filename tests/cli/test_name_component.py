"""`stkit name-component`."""

from __future__ import annotations

import pytest

from stkit.weights import Weights
from tests.cli.harness import Cli, error_line


def test_a_component_gets_a_name(cli: Cli) -> None:
    named = cli("name-component", "pc2", "turn", "--layers", "0-1")
    assert (named.code, "--attribute turn" in named.out) == (0, True), named.err
    assert "component pc2 in layers 0-1" in cli("methods", "show", "ganspace").out
    assert "exists; choose another name, or --replace it" in error_line(cli("name-component", "pc1", "turn"))
    assert cli("name-component", "pc1", "turn", "--replace").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pc99", "other"), "no component named 'pc99'"),
        (("smile", "other"), "no component named 'smile'"),
        (("pc1", "pc2"), "'pc2' is the number of a component"),
        (("pc1", "a b"), "'a b' cannot name a direction"),
        (("pc1", "far", "--layers", "3-90"), "layers 3-90 do not fit a generator"),
    ],
)
def test_what_cannot_be_named(cli: Cli, tiny_weights: Weights, arguments: tuple[str, ...], message: str) -> None:
    refused = cli("name-component", *arguments, "--weights", str(tiny_weights.folder))
    assert refused.code == 2
    assert message in error_line(refused)
