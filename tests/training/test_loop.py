from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stkit.errors import OutputError, StkitError, UsageError
from stkit.training.loop import (
    Ema,
    LoopConfig,
    Stateful,
    Unchanged,
    cosine_warmup,
    run_loop,
    run_settings,
    step_generator,
)


class Toy:
    """A linear layer trained on random numbers."""

    def __init__(self, out: Path, steps: int, width: int = 3, **changes: Any) -> None:
        self.loop = LoopConfig(**{"out": out, "steps": steps, "batch": 2, "save_seconds": 0.0, **changes})
        torch.manual_seed(0)
        self.model = nn.Linear(width, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 0.1)
        self.after: Callable[[int], None] = lambda step: None
        self.sampled: list[int] = []

    def train(self) -> int:
        state: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        return run_loop(self.loop, state, self.step, self.sample)

    def step(self, step: int) -> Mapping[str, Tensor]:
        x = torch.randn(2, self.model.in_features, generator=step_generator(self.loop, step)) + torch.randn(())
        self.optimizer.zero_grad()
        loss = self.model(x).square().mean()
        loss.backward()
        self.optimizer.step()
        self.after(step)
        return {"loss": loss.detach()}

    def sample(self, step: int) -> Mapping[str, float]:
        self.sampled.append(step)
        torch.rand(step)  # must not change what comes after
        return {"val": 0.5}

    def log(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.loop.out / "log.jsonl").read_text().splitlines()]


def weights(toy: Toy) -> Tensor:
    return toy.model.weight.detach().clone()


def test_a_finished_run_leaves_a_checkpoint_a_log_and_a_sample(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "new" / "run", 5, log_seconds=0.0)
    assert toy.train() == 5
    assert toy.sampled == [5]
    assert torch.load(toy.loop.checkpoint, weights_only=True)["step"] == 5
    assert [line["step"] for line in toy.log()] == [1, 2, 3, 4, 5, 5]
    assert toy.log()[-1] == {"step": 5, "val": 0.5}
    assert {"loss", "seconds", "images_per_second"} <= toy.log()[0].keys()


def test_one_run_a_folder(tmp_path: Path) -> None:
    toy, second = Toy(tmp_path, 3, log_seconds=0.0), Toy(tmp_path, 5, resume=True)

    def meddle(step: int) -> None:
        with pytest.raises(OutputError, match="another stkit is writing to .*; wait until it is done"):
            second.train()

    toy.after = meddle
    assert toy.train() == 3
    assert [line["step"] for line in toy.log()] == [1, 2, 3, 3]
    assert second.train() == 5


def test_samples_in_between_change_nothing(tmp_path: Path) -> None:
    quiet, busy = Toy(tmp_path / "a", 5), Toy(tmp_path / "b", 5, sample_seconds=0.0)
    quiet.train()
    busy.train()
    assert busy.sampled == [1, 2, 3, 4, 5, 5]
    assert torch.equal(weights(quiet), weights(busy))


def test_the_checkpoint_comes_before_the_pictures(tmp_path: Path) -> None:
    toy = Toy(tmp_path, 3, save_seconds=1e6)

    def fail(step: int) -> Mapping[str, float]:
        raise RuntimeError("no picture")

    toy.sample = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no picture"):
        toy.train()
    assert torch.load(toy.loop.checkpoint, weights_only=True)["step"] == 3


def test_the_steps_own_generator_and_the_global_one_differ(tmp_path: Path) -> None:
    toy, drawn = Toy(tmp_path, 1), []
    toy.after = lambda step: drawn.append(torch.initial_seed())
    toy.train()
    assert drawn != [step_generator(toy.loop, 0).initial_seed()]


SCRIPT = """
import sys, time
from pathlib import Path
from test_loop import Toy
toy = Toy(Path(sys.argv[1]), 1000, log_seconds=0.0)
toy.after = lambda step: time.sleep(0.02)
toy.train()
"""


def start(out: Path, until: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """A run of its own process, at work when `until` holds."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not until():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, until=(out / "checkpoint.pt").exists)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL

    done = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert 1 <= done < 1000
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": done + 1, "loss": 1.0}) + '\n{"step": 1')  # a later line, and one cut short
    resumed = Toy(out, done + 4, resume=True)
    assert resumed.train() == done + 4
    straight = Toy(tmp_path / "straight", done + 4)
    straight.train()
    assert torch.equal(weights(resumed), weights(straight))
    steps = [line["step"] for line in resumed.log()]
    assert steps == [*range(1, done + 1), done + 4, done + 4][-len(steps) :]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    toy = Toy(tmp_path, 10, save_seconds=1e6)
    toy.after = lambda step: os.kill(os.getpid(), number) if step == 2 else None
    assert toy.train() == 3
    assert torch.load(toy.loop.checkpoint, weights_only=True)["step"] == 3
    said = f"stopped at step 3 of 10, saved in {toy.loop.out}; the same command with --resume goes on"
    assert said in capsys.readouterr().out.splitlines()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(Toy(tmp_path, 2).train).result() == 2


def test_a_second_interrupt_acts_at_once(tmp_path: Path) -> None:
    toy = Toy(tmp_path, 10)

    def twice(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    toy.after = twice
    with pytest.raises(KeyboardInterrupt):
        toy.train()


def test_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    Toy(tmp_path, 3).train()
    again = Toy(tmp_path, 3, resume=True)
    assert again.train() == 3
    assert again.sampled == []
    assert len(again.log()) == 2


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    assert Toy(tmp_path, 2, resume=True).train() == 2


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    Toy(tmp_path, 1).train()
    with pytest.raises(UsageError, match="already holds a run; go on with --resume"):
        Toy(tmp_path, 2).train()


def test_a_checkpoint_of_another_shape_is_one_line(tmp_path: Path) -> None:
    Toy(tmp_path, 1).train()
    with pytest.raises(StkitError, match="does not fit this configuration: size mismatch for weight") as caught:
        Toy(tmp_path, 2, width=4, resume=True).train()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_of_run_is_one_line(tmp_path: Path) -> None:
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(StkitError, match="does not fit this configuration: it has no 'model'"):
        Toy(tmp_path, 2, resume=True).train()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, keep: int) -> None:
    Toy(tmp_path, 1).train()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StkitError, match="is damaged or no checkpoint"):
        Toy(tmp_path, 2, resume=True).train()


def _circle(saved: dict[str, Any]) -> None:
    saved["model"]["self"] = [saved]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda saved: saved.update(step="x"), "does not fit"),
        (lambda saved: saved.update(step=float("inf")), "does not fit"),
        (lambda saved: saved.update(model=[1]), "does not fit"),
        (lambda saved: saved.update(optimizer={"state": 3}), "does not fit"),
        (lambda saved: saved["optimizer"]["param_groups"][0].update(lr="x"), "lr of its optimiser is a str"),
        (lambda saved: saved["optimizer"]["state"][0].update(exp_avg=torch.zeros(1, 1, 99)), "exp_avg of its optim"),
        (lambda saved: saved["optimizer"]["state"][0].update(exp_avg="x"), "exp_avg of its optimiser does not fit"),
        (_circle, "in a circle"),
        (lambda saved: saved.update(model=argparse.Namespace()), "does not fit"),
        (lambda saved: saved.update(model=StkitError("x")), "a Record where data belongs"),
    ],
)
def test_hostile_and_foreign_checkpoints_are_one_line(change: Any, says: str, tmp_path: Path) -> None:
    Toy(tmp_path, 2).train()
    path = tmp_path / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)
    with pytest.raises(StkitError, match=says) as caught:
        Toy(tmp_path, 3, resume=True).train()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_nothing_of_a_checkpoint_is_executed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(_Touch(tmp_path / "ran")))
    with pytest.raises(StkitError, match="is damaged or no checkpoint"):
        Toy(tmp_path, 3, resume=True).train()
    assert not (tmp_path / "ran").exists()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_lines_of_a_log_that_are_no_numbers_go(tmp_path: Path) -> None:
    Toy(tmp_path, 2).train()
    log = tmp_path / "log.jsonl"
    good = log.read_text()
    log.write_text(good + '{"step": 1, "loss": "x"}\n[1]\n{"step": 1, "loss": 1' + "0" * 400 + "}\n")
    Toy(tmp_path, 3, resume=True).train()
    assert log.read_text().startswith(good) and "x" not in log.read_text()


def test_divergence_stops_before_the_checkpoint_is_replaced(tmp_path: Path) -> None:
    toy = Toy(tmp_path, 10)

    def diverge(step: int) -> None:
        if step == 3:
            toy.model.weight.data.fill_(float("nan"))

    toy.after = diverge
    with pytest.raises(StkitError, match=r"training diverged at step 5: .*; lower the learning rate"):
        toy.train()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    toy = Toy(tmp_path, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(step: int) -> None:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))

    toy.after = fill
    try:
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.pt: File too large"):
            toy.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write to .*; choose another folder with --out"):
        Toy(tmp_path / "file" / "run", 1).train()


def test_unchanged_names_what_differs() -> None:
    settings: dict[str, Any] = {"rate": 0.1, "model": {"width": 3, "dtype": torch.float32}}
    saved = Unchanged(settings).state_dict()
    Unchanged(settings).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"model\.width was 3 and is now 4"):
        Unchanged({**settings, "model": {"width": 4, "dtype": torch.float32}}).load_state_dict(saved)
    with pytest.raises(ValueError, match="extra was not there and is now 1"):
        Unchanged({**settings, "extra": 1}).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"rate was 0\.1 and is now not there"):
        Unchanged({"model": settings["model"]}).load_state_dict(saved)


def test_compiling_is_no_setting_of_a_run(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Plain:
        rate: float = 0.1

    @dataclass(frozen=True)
    class Compiled(Plain):
        compile: bool = True

    loop = LoopConfig(tmp_path, 1, 4, seed=3)
    assert run_settings(Plain(), loop) == {"rate": 0.1, "batch": 4, "seed": 3}
    assert run_settings(Compiled(), loop) == run_settings(Compiled(compile=False), loop)
    assert run_settings(Compiled(rate=0.2), loop) != run_settings(Compiled(), loop)


def test_ema_warms_up_and_takes_integers_as_they_are() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, nn.BatchNorm1d(2), decay=0.5)
    model.weight.data.fill_(11.0)
    model.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    averaged = ema.model.state_dict()
    ema.update(model, 0)
    torch.testing.assert_close(averaged["weight"], torch.full((2,), 10.0))  # a tenth of the old in the first step
    assert averaged["num_batches_tracked"] == 7
    model.weight.data.fill_(20.0)
    ema.update(model, 1000)
    torch.testing.assert_close(averaged["weight"], torch.full((2,), 15.0))
    assert not ema.model.weight.requires_grad
    assert not ema.model.training


def test_learning_rate_rises_and_falls() -> None:
    factors = [cosine_warmup(step, 1000) for step in range(1001)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == factors[99] == pytest.approx(1)
    assert factors[1000] == pytest.approx(0.02)
    assert factors[100:] == sorted(factors[100:], reverse=True)


def test_what_cannot_be_compiled_is_trained_uncompiled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\n" * 1000)

    eager, compiled = Toy(tmp_path / "eager", 3), Toy(tmp_path / "compiled", 3)
    compiled.model.forward = torch.compile(compiled.model.forward, backend=broken)  # type: ignore[method-assign]
    eager.train()
    with caplog.at_level(logging.WARNING, "stkit"):
        try:
            assert compiled.train() == 3
        finally:
            torch.compiler.set_stance("default")
            torch._dynamo.reset()
    (said,) = caplog.messages
    assert said.startswith("torch.compile failed (") and said.endswith(
        "); the training goes on uncompiled, more slowly"
    )
    assert "no compiler" in said and len(said) < 500
    assert torch.equal(weights(eager), weights(compiled))
