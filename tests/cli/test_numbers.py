"""Numbers that are none, in every command and option: exit code 2, and the option is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from stkit.cli import build_app
from stkit.editor.steps import EditStep
from stkit.errors import UsageError
from tests.cli.harness import Cli, error_line


def commands(app: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        if command.callback is not None:
            yield " ".join((*path, command.name or command.callback.__name__)), command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, (*path, str(group.name)))


def test_every_float_of_every_command() -> None:
    checked = set()
    for name, callback in commands(build_app()):
        for field, hint in get_type_hints(callback, include_extras=True).items():
            kind = str(getattr(hint, "__origin__", hint))
            if "float" not in kind or field == "return":
                continue
            for value in (float("nan"), float("inf"), -float("inf")):
                with pytest.raises(UsageError, match=rf"--\S+ {value} is no finite number") as raised:
                    callback(**{field: value})
                assert raised.value.exit_code == 2
            checked.add(name)
    assert {"sample", "edit", "morph", "latents mix"} <= checked


def test_every_seed_of_every_command() -> None:
    checked = set()
    for name, callback in commands(build_app()):
        if "seed" in get_type_hints(callback):
            with pytest.raises(UsageError, match="--seed -1 is negative"):
                callback(seed=-1)
            checked.add(name.split()[-1])
    assert {"edit", "evaluate", "fit-direction", "rank-channels", "inverter", "mapping"} <= checked


NUMBERS = {
    "--trunc": ("sample", "--trunc", "nan"),
    "--seeds": ("sample", "--seeds", "1e400"),
    "--strength": ("edit", "PHOTO", "--method", "interfacegan", "--attribute", "smile", "--strength", "inf"),
    "--edit": ("edit", "PHOTO", "--edit", "smile=nan"),
    "--edits": ("evaluate", "PHOTO", "--edits", "smile=nan"),
    "--face": ("edit", "PHOTO", "--edit", "smile=1", "--face", "0"),
    "--sweep": ("edit", "PHOTO", "--edit", "smile=1", "--sweep", "0:inf:3"),
    "--refine": ("invert", "PHOTO", "--refine", "optimize:nan"),
    "--layers": ("edit", "PHOTO", "--edit", "smile=1", "--layers", "nan"),
    "--box": ("edit", "PHOTO", "--edit", "smile=1", "--box", "0,0,nan,9"),
    "--smooth": ("edit", "PHOTO", "--edit", "smile=1", "--smooth", "nan"),
    "--seed": ("edit", "PHOTO", "--edit", "smile=1", "--seed", "9" * 30),
    "--frames": ("morph", "PHOTO", "PHOTO", "--frames", "-4"),
    "--rate": ("morph", "PHOTO", "PHOTO", "--rate", "nan"),
    "'l2'": ("invert", "PHOTO", "--inverter", "optimize", "-o", "l2=nan"),
}


@pytest.mark.parametrize("named", NUMBERS)
def test_the_option_is_named(named: str, cli: Cli, portrait: Path) -> None:
    result = cli(*(str(portrait) if part == "PHOTO" else part for part in NUMBERS[named]))
    assert result.code == 2
    assert named in result.err
    assert not Path("out").exists()


def test_seeds_that_no_computer_word_holds(cli: Cli) -> None:
    assert "--seeds" in error_line(cli("sample", "--seeds", "9" * 30))


def test_a_step_has_a_finite_strength() -> None:
    with pytest.raises(UsageError, match="strength nan of smile"):
        EditStep("interfacegan", "smile", float("nan"))
