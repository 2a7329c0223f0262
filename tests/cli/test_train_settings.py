"""`stkit train NAME`: what a plugin's trainer is told, by flags, `-o KEY=VALUE`, and flags of the last version."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from stkit.contracts.training import SILENT, Trainer, Voice, argument, flag, setting
from stkit.plugins import load_plugins
from tests.cli.harness import Cli, error_line


@dataclass(frozen=True)
class EchoConfig:
    data: Path = field(metadata=argument("What to read."))
    out: Path = field(metadata=flag("Where to write."))
    steps: int = field(default=10, metadata=flag("Steps.", least=1))
    kind: Literal["a", "b"] = field(default="a", metadata=flag("a or b."))
    half: bool = field(default=True, metadata=flag("Half of them.", names="--half/--all"))
    rate: float = field(default=0.5, metadata=setting("How fast.", least=0, most=1))
    size: int | None = field(default=None, metadata=setting("How large.", least=8))
    quick: bool = field(default=False, metadata=setting("In a hurry."))
    plain: str = "without metadata"


class Echo(Trainer[EchoConfig]):
    name = "echo"
    description = "Say what it was told."
    Config = EchoConfig

    def __init__(self) -> None:
        self.told: EchoConfig | None = None

    def train(self, config: EchoConfig, voice: Voice = SILENT) -> object:
        self.told = config
        voice.say("trained")
        return True


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    trainer, registry = Echo(), load_plugins()
    known = dataclasses.replace(registry, trainers={**registry.trainers, "echo": trainer})
    monkeypatch.setattr("stkit.cli.load_plugins", lambda: known)
    return trainer


def test_a_trainer_gets_what_the_command_line_says(cli: Cli, echo: Echo) -> None:
    ran = cli("train", "echo", "x", "--out", "y", "--kind", "b", "--all", "-o", "rate=0.25", "-o", "size=64")
    assert (ran.code, ran.out, ran.err) == (0, "trained\n", "")
    assert echo.told == EchoConfig(Path("x"), Path("y"), kind="b", half=False, rate=0.25, size=64)
    assert cli("train", "echo", "x", "--out", "y").code == 0
    assert echo.told == EchoConfig(Path("x"), Path("y"))


def test_help_lists_flags_and_settings(cli: Cli, echo: Echo) -> None:
    said = cli("train", "echo", "-h").out
    assert "Say what it was told." in said and "--half" in said and "--all" in said
    assert "--rate" not in said
    table = said[said.index("-o KEY") :].splitlines()[1:]
    rows = [line.strip().split(maxsplit=2) for line in table if line.strip()]
    assert [row[0] for row in rows] == ["rate", "size", "quick", "plain"]
    assert rows[0] == ["rate", "0.5", "How fast."]


def test_flags_of_the_last_version_still_work_and_warn(cli: Cli, echo: Echo) -> None:
    ran = cli("train", "echo", "x", "--out", "y", "--rate", "0.75", "--no-quick", "--size", "16")
    assert ran.code == 0
    assert echo.told == EchoConfig(Path("x"), Path("y"), rate=0.75, size=16)
    warnings = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    assert warnings[0] == "warning: --rate is now `-o rate=0.75`; the flag goes away with the next version"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "raet=1"], "no setting named 'raet': did you mean rate?"),
        (["-o", "steps=1"], "no setting named 'steps'"),
        (["-o", "rate"], "is not of the form KEY=VALUE"),
        (["-o", "rate=1.5"], "-o rate is from 0 to 1 (got 1.5)"),
        (["-o", "rate=fast"], "-o rate: Input should be a valid number"),
        (["-o", "rate=nan"], "-o rate nan is no finite number"),
        (["-o", "size=4"], "-o size is at least 8 (got 4)"),
        (["-o", "quick=perhaps"], "-o quick: Input should be a valid boolean"),
        (["--steps", "0"], "--steps is at least 1 (got 0)"),
        (["--kind", "c"], "--kind: Input should be 'a' or 'b' (got 'c')"),
    ],
)
def test_bad_settings_are_one_line(cli: Cli, echo: Echo, arguments: list[str], says: str) -> None:
    ran = cli("train", "echo", "x", "--out", "y", *arguments)
    assert ran.code == 2 and says in error_line(ran), ran.err
    assert echo.told is None


@pytest.mark.parametrize("trainer", load_plugins().trainers.values(), ids=lambda trainer: trainer.name)
def test_our_trainers_explain_every_field(trainer: Trainer[Any]) -> None:
    for known in dataclasses.fields(trainer.Config):
        assert known.metadata["help"].endswith((".", "...")), known.name
    flags = [known for known in dataclasses.fields(trainer.Config) if known.metadata["place"] != "option"]
    assert len(flags) < 15


REFUSED = {
    "--resolution 100": ("domain", "photos", "--name", "x", "--resolution", "100"),
    "--resolution is from 16 to 1024": ("domain", "photos", "--name", "x", "--resolution", "-1"),
    "-o precision": ("domain", "photos", "--name", "x", "-o", "precision=half"),
    "-o w_dim is at least 1": ("domain", "photos", "--name", "x", "-o", "w_dim=-4"),
    "--batch is at least 2": ("reconstruction", "photos", "--out", "x", "--batch", "0"),
    "-o learning_rate nan": ("reconstruction", "photos", "--out", "x", "-o", "learning_rate=nan"),
    "-o save_seconds": ("inverter", "photos", "--out", "x", "-o", "save_seconds=-1"),
    "ada": ("generator", "photos", "--out", "x", "-o", "discriminator=projected", "-o", "ada=true"),
    "-o r1_gamma inf": ("generator", "photos", "--out", "x", "-o", "r1_gamma=inf"),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_trained_is_refused_before_any_work(says: str, cli: Cli) -> None:
    Path("photos").mkdir()
    Path("photos/broken.png").write_bytes(b"never read")
    result = cli("train", *REFUSED[says])
    assert result.code == 2 and says in error_line(result)
    assert "broken" not in result.err and not Path("x").exists()
