"""The loop that every training shares: resumable, interruptible, logged, with sample grids."""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from stkit.checkpoints.saved import read_saved
from stkit.errors import StkitError, UsageError, WeightsError, reason_of
from stkit.files import atomic_path, locked
from stkit.training import parallel
from stkit.training.log import RunLog

_log = logging.getLogger("stkit")


class Stateful(Protocol):
    """What a checkpoint holds: modules, optimisers, anything with these two methods."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True)
class LoopConfig:
    """How long to train and what to leave behind in the folder `out`."""

    out: Path
    steps: int
    batch: int
    seed: int = 0
    resume: bool = False
    save_seconds: float = 120.0
    sample_seconds: float = 300.0
    log_seconds: float = 15.0

    @property
    def checkpoint(self) -> Path:
        """The resumable state."""
        return self.out / "checkpoint.pt"

    def require_fresh(self) -> None:
        """Raise UsageError when `out` holds a run that is not to go on."""
        if not self.resume and self.checkpoint.exists():
            raise UsageError(f"{self.out} already holds a run; go on with --resume or choose another --out")


def run_loop(
    config: LoopConfig,
    state: Mapping[str, Stateful],
    step: Callable[[int], Mapping[str, Tensor]],
    sample: Callable[[int], Mapping[str, float]],
) -> int:
    """Call `step(i)` for each step and return the number of steps done.

    `step` trains once and returns named scalars; `sample` writes pictures and returns validation
    figures. All randomness must come from `step_generator` or torch's global generator, which is
    seeded before every step, so that a resumed run repeats the run that was never interrupted.
    SIGINT and SIGTERM end the loop after the step under way, with a checkpoint. Of several processes
    (see stkit.training.parallel) the first one alone writes. Raises OutputError while another run writes to `out`.
    """
    if parallel.rank():
        return _follow(config, _restore(config, state), step)
    with locked(config.out):
        return _lead(config, state, step, sample)


def _lead(
    config: LoopConfig,
    state: Mapping[str, Stateful],
    step: Callable[[int], Mapping[str, Tensor]],
    sample: Callable[[int], Mapping[str, float]],
) -> int:
    """The loop of the first process, which writes."""
    done = _restore(config, state)
    log = RunLog(config.out, done)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    saved = sampled = logged = started = time.monotonic()
    first = logged_step = done
    with Progress(*columns) as progress, _interruptible() as interrupted:
        task = progress.add_task(
            config.out.name, total=config.steps, completed=done, note="the first step, which takes longest"
        )
        while done < config.steps and not interrupted():
            losses = _step(config, done, step)
            done += 1
            if done == first + 1:
                progress.update(task, completed=done, note="")
            now = time.monotonic()
            save_due = now - saved >= config.save_seconds
            log_due = now - logged >= config.log_seconds or done == config.steps
            # Before a checkpoint too: a diverged one would replace the last good one.
            values = _finite(losses, done) if log_due or save_due else {}
            if log_due:
                rate = (done - logged_step) * config.batch / (now - logged)
                log.write(step=done, seconds=round(now - started, 1), images_per_second=round(rate, 2), **values)
                note = f"{rate:.1f} images/s  " + "  ".join(f"{name} {value:.4f}" for name, value in values.items())
                progress.update(task, completed=done, note=note)
                logged, logged_step = now, done
            if save_due:
                _save(config, state, done)
                saved = time.monotonic()
            if now - sampled >= config.sample_seconds:
                log.write(step=done, **sample(done))
                log.plot()
                sampled = time.monotonic()
        if done > first or not config.checkpoint.exists():
            _save(config, state, done)
            log.write(step=done, **sample(done))
            log.plot()
        log.close()
        if done < config.steps:
            # One command may run several of these loops, in folders below its own.
            said = f"stopped at step {done} of {config.steps}, saved in {config.out}"
            progress.console.print(f"{said}; the same command with --resume goes on", soft_wrap=True)
    return done


def _step(config: LoopConfig, done: int, step: Callable[[int], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    # Processes draw different noise within a step, none of them what `step_generator` draws.
    seed = config.seed * 1_000_003 + done + (parallel.rank() + 1) * 15_485_863
    torch.manual_seed(seed)
    try:
        values = step(done)
    except Exception as error:
        if not _is_of_the_compiler(error):
            raise
        if parallel.world_size() > 1:  # the others would wait for what this one has averaged already
            raise StkitError(f"torch.compile failed ({reason_of(error)}); start again with -o compile=no") from error
        _log.warning("torch.compile failed (%s); the training goes on uncompiled, more slowly", reason_of(error))
        torch.compiler.set_stance("force_eager")
        torch.manual_seed(seed)
        values = step(done)
    return parallel.average_values(values)


def _is_of_the_compiler(error: BaseException) -> bool:
    """Whether torch.compile raised `error`. Its module is there only where something was compiled."""
    raised = sys.modules.get("torch._dynamo.exc")
    return raised is not None and isinstance(error, raised.TorchDynamoException)


def _follow(config: LoopConfig, done: int, step: Callable[[int], Mapping[str, Tensor]]) -> int:
    """The loop of all processes but the first: it trains, and stops when any process is told to."""
    with _interruptible() as interrupted:
        while done < config.steps and not interrupted():
            _step(config, done, step)
            done += 1
    return done


def _finite(losses: Mapping[str, Tensor], step: int) -> dict[str, float]:
    values = {name: round(float(value), 5) for name, value in losses.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise StkitError(f"training diverged at step {step}: {values}; lower the learning rate")
    return values


def step_generator(config: LoopConfig, step: int) -> torch.Generator:
    """The CPU random generator of one step."""
    return torch.Generator().manual_seed(config.seed * 1_000_003 + step)


def _save(config: LoopConfig, state: Mapping[str, Stateful], step: int) -> None:
    data = io.BytesIO()  # torch.save's own errors on a full disk are no OSError
    torch.save({"step": step, **{name: item.state_dict() for name, item in state.items()}}, data)
    with atomic_path(config.checkpoint) as path:
        path.write_bytes(data.getvalue())


def _restore(config: LoopConfig, state: Mapping[str, Stateful]) -> int:
    config.require_fresh()
    path = config.checkpoint
    if not path.exists():
        return 0
    try:
        saved = read_saved(path)
    except WeightsError as error:
        raise StkitError(
            f"{path} is damaged or no checkpoint ({reason_of(error)}); start again in another --out"
        ) from error
    try:
        done = int(saved["step"])
        for name, item in state.items():
            _load(item, saved[name])
    except Exception as error:  # of a file that claims to be a checkpoint, torch raises what it likes
        said = str(error).splitlines() or [type(error).__name__]
        reason = f"it has no {error}" if isinstance(error, KeyError) else said[-1].strip()[:200]
        raise StkitError(
            f"{path} does not fit this configuration: {reason}; give the settings it was started with, "
            "or choose another --out"
        ) from error
    if done > config.steps:
        raise UsageError(f"{config.out} is at step {done}, past --steps {config.steps}; --steps {done} ends it there")
    return done


def _load(item: Stateful, saved: Any) -> None:
    """Give `item` its saved state. Raises ValueError for settings and moments that an optimiser cannot use."""
    settings = [dict(group) for group in item.param_groups] if isinstance(item, torch.optim.Optimizer) else []
    item.load_state_dict(saved)
    if not isinstance(item, torch.optim.Optimizer):
        return
    for was, group in zip(settings, item.param_groups, strict=True):
        for name, value in was.items():
            if type(group.get(name)) is not type(value):
                raise ValueError(f"{name} of its optimiser is a {type(group.get(name)).__name__}")
    for parameter, moments in item.state.items():
        for name, value in moments.items():
            if not isinstance(value, Tensor) or value.shape not in ((), parameter.shape):
                raise ValueError(f"{name} of its optimiser does not fit a parameter of shape {tuple(parameter.shape)}")
            if value.ndim:  # torch's fused steps take it to lie in memory as the parameter does
                laid = torch.empty_strided(value.shape, parameter.stride(), dtype=value.dtype, device=value.device)
                moments[name] = laid.copy_(value)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag; a second signal acts as usual.

    Beside the main thread, as in the workers of Ray Train, signals are another's business.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for key, handler in previous.items():
            signal.signal(key, handler)

    is_main = threading.current_thread() is threading.main_thread()
    for number in (signal.SIGINT, signal.SIGTERM) if is_main else ():
        previous[number] = signal.signal(number, note)
    try:
        yield lambda: parallel.any_process(bool(received))
    finally:
        for key, handler in previous.items():
            signal.signal(key, handler)


class Unchanged:
    """Settings that must be the same when a run is resumed: part of its state, kept as text."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(_flat(settings))

    def state_dict(self) -> dict[str, str]:
        """Dotted names and values."""
        return self._settings

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Raise ValueError naming the first setting that differs."""
        for name in {**self._settings, **state}:
            was, now = state.get(name, "not there"), self._settings.get(name, "not there")
            if was != now:
                raise ValueError(f"{name} was {was} and is now {now}")


def run_settings(config: Any, loop: LoopConfig) -> dict[str, Any]:
    """What a resumed run must not change: `config` (a dataclass), the batch and the seed.

    How it is computed may change between runs, what is computed may not: a field `compile` does not count.
    """
    settings = dataclasses.asdict(config)
    if "compile" in settings:
        settings["compile"] = False  # as checkpoints have it
    return {**settings, "batch": loop.batch, "seed": loop.seed}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


class Ema(nn.Module):
    """Exponential moving average of a module's parameters and buffers, warmed up over the first steps."""

    def __init__(self, model: nn.Module, copy: nn.Module, decay: float) -> None:
        super().__init__()
        self.model = copy.requires_grad_(False).eval()
        self.decay = decay
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model`; `step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in theirs.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n].detach() for n in floats], 1 - decay)
        for name in theirs.keys() - set(floats):
            mine[name].copy_(theirs[name])


def cosine_warmup(step: int, steps: int, warmup: int = 100) -> float:
    """Learning rate factor: linear over `warmup` steps, then a cosine down to 2% at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.02 + 0.98 * (0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * progress))))


__all__ = ["Ema", "LoopConfig", "Stateful", "Unchanged", "cosine_warmup", "run_loop", "run_settings", "step_generator"]
