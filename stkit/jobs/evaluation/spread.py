"""An evaluation's photos by an engine: each worker measures some of them, the numbers of all together come after."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from stkit.contracts.training import Voice
from stkit.errors import StkitError
from stkit.files import safe_name
from stkit.jobs.evaluation.plan import Plan, make_plan
from stkit.jobs.evaluation.runner import run_plan, stores_in
from stkit.jobs.report import Row
from stkit.jobs.request import EvaluateRequest
from stkit.jobs.sources import Item
from stkit.jobs.spreading import spread_rows

_TOGETHER = 8


class MeasuringJob:
    """Measures photos as `run_plan` does, into stores of this process: a `stkit.jobs.runner.Job`."""

    def __init__(self, request: EvaluateRequest) -> None:
        self._plan = make_plan(request)
        self._stores = stores_in(request.out, self._plan, safe_name(f"{socket.gethostname()}-{os.getpid()}"))

    def prepare(self, item: Item) -> str:
        """Its name; photos are read where they are needed."""
        return str(item.name)

    def compute(self, prepared: Sequence[str]) -> Sequence[str]:
        """All but numbers of sets; what fails is tried again, and told, by who asked."""
        run_plan(_of(self._plan, prepared), self._stores, sets=False)
        return prepared

    def finish(self, item: Item, result: str) -> Row:
        """It is done."""
        return Row(str(item.path), "ok")


def by_engine(request: EvaluateRequest, plan: Plan, voice: Voice) -> tuple[Plan, list[str]]:
    """Have the photos measured by the request's engine, if it names one: the plan of those that were, and why not.

    Raises UsageError, StkitError when none was.
    """
    together = _TOGETHER if all(system.together for system in plan.systems) else 1  # no worker ends long after others
    spread = spread_rows(request, partial(MeasuringJob, request), together)
    if spread is None:
        return plan, []
    items = {name: Item(Path(name), PurePosixPath(name)) for name in plan.photos.names}
    failed: dict[str, str] = {}
    with voice.bar("measuring") as tell:
        for done, row in enumerate(spread(list(items.values())), 1):
            if row.status == "failed":
                failed[row.photo] = row.reason
            tell(done, len(items))
    left = [name for name, item in items.items() if str(item.path) not in failed]
    reasons = [f"{photo} could not be measured: {reason}" for photo, reason in failed.items()]
    if not left:
        raise StkitError(reasons[0])
    return _of(plan, left), reasons


def _of(plan: Plan, names: Sequence[str]) -> Plan:
    return dataclasses.replace(plan, photos=dataclasses.replace(plan.photos, names=tuple(names)))


__all__ = ["MeasuringJob", "by_engine"]
