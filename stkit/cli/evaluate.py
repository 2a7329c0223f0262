from __future__ import annotations

COMMAND = "evaluate-quick"


def run() -> None:
    pass
