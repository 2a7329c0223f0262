"""Options and LayerRange: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stkit.errors import UsageError
from stkit.options import LatentSpace, LayerRange, Options, build_options, parse_options


class Sample(Options):
    steps: int = 10
    rate: float = 0.5
    flip: bool = False
    note: str = ""


def test_defaults() -> None:
    assert parse_options(Sample, []) == Sample(steps=10, rate=0.5, flip=False, note="")


@given(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text())
def test_text_round_trip(steps: int, rate: float, flip: bool, note: str) -> None:
    pairs = [f"steps={steps}", f"rate={rate!r}", f"flip={flip}", f"note={note}"]
    assert parse_options(Sample, pairs) == Sample(steps=steps, rate=rate, flip=flip, note=note)


def test_value_may_hold_the_sign() -> None:
    assert parse_options(Sample, ["note=a=b="]).note == "a=b="


def test_keywords() -> None:
    assert build_options(Sample, {"steps": 3}).steps == 3


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["stepz=3"], "unknown option 'stepz'; known options: steps, rate, flip, note"),
        (["steps=many"], r"option 'steps': .*integer.* \(got 'many'\)"),
        (["flip=perhaps"], "option 'flip': "),
        (["steps"], "option 'steps' is not of the form KEY=VALUE"),
        (["=3"], "option '=3' is not of the form KEY=VALUE"),
        (["steps=1", "steps=2"], "option 'steps' is given twice"),
    ],
)
def test_wrong_options_are_named(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_options(Sample, pairs)


def test_unknown_option_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="unknown option 'any'; known options: none"):
        parse_options(Options, ["any=1"])


def test_latent_space_is_its_word() -> None:
    assert [str(space) for space in LatentSpace] == ["w", "w_plus"]
    assert LatentSpace("w_plus") is LatentSpace.W_PLUS


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 18))
def test_layer_range_round_trip(first: int, length: int, num_ws: int) -> None:
    layers = LayerRange(first, first + length)
    assert LayerRange.parse(str(layers)) == layers
    if layers.last < num_ws:
        assert list(layers.indices(num_ws)) == [layer for layer in range(num_ws) if first <= layer <= layers.last]
    else:
        with pytest.raises(UsageError, match=f"do not fit a generator with layers 0-{num_ws - 1}"):
            layers.indices(num_ws)


def test_one_layer() -> None:
    assert LayerRange.parse(" 5 ") == LayerRange(5, 5)


@pytest.mark.parametrize("text", ["", "-", "4-", "-4", "a-b", "1-2-3", "4,5", "1.5"])
def test_text_that_is_no_layer_range(text: str) -> None:
    with pytest.raises(UsageError, match="is not like 4-7 or 5"):
        LayerRange.parse(text)


@pytest.mark.parametrize("text", ["7-4", "4--7"])
def test_layers_upside_down(text: str) -> None:
    with pytest.raises(UsageError, match="first must not be above the last"):
        LayerRange.parse(text)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"option 'rate': .*finite number \\(got '{value}'\\)"):
        parse_options(Sample, [f"rate={value}"])
