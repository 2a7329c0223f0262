"""Work on strips of a map, in threads that each take the next one.

Torch's own threads share every operation and wait for each other after it. On strips that is often, and whenever
another program holds one of the processors all of them wait for it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_lock = threading.Lock()


def in_strips(work: Callable[[int, int], None], strips: Sequence[tuple[int, int]]) -> None:
    """`work(start, stop)` for all `strips`, in as many threads as torch has, without gradients."""
    threads = torch.get_num_threads()
    if threads == 1 or len(strips) == 1:
        for strip in strips:
            work(*strip)
        return
    inference = torch.is_inference_mode_enabled()

    def run(strip: tuple[int, int]) -> None:
        with torch.no_grad(), torch.inference_mode(inference):  # modes are each thread's own
            work(*strip)

    with _lock:
        pool = _pool(threads)
    list(pool.map(run, strips))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch has one thread."""
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "strips", start)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # what the others set is the default of new threads, too
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads

__all__ = ["in_strips"]
