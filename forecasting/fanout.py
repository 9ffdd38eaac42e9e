# SPDX-License-Identifier: Apache-2.0
"""The same work for many homes: in a local pool of processes, on a Dask cluster where one is named,
or here when there is only one.

What is fanned out is a plain function of plain data, so nothing depends on where it runs.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

R = TypeVar("R")

# Each process solves small systems: threads of the linear algebra inside would fight over cores.
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Starting a process and importing Prophet takes as long as about this many forecasts.
_WORTH_A_POOL = 16


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fan_out(
    work: Callable[..., R],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None = None,
    dask: str | None = None,
) -> list[R]:
    """`work(*job)` for every job, in their order.

    workers: processes; by default one per core, and none where there are few jobs. dask: address
    of a Dask scheduler, whose cluster does it instead. What `work` raises is raised here.
    """
    if dask is not None:
        from forecasting.dask_pool import on_cluster

        return on_cluster(work, jobs, dask)
    count = workers if workers is not None else (cores() if len(jobs) >= _WORTH_A_POOL else 1)
    count = min(count, len(jobs))
    if count <= 1:
        return [work(*job) for job in jobs]
    with (
        _one_thread(),
        ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        return list(pool.map(work, *zip(*jobs, strict=True), chunksize=1))


@contextmanager
def _one_thread() -> Iterator[None]:
    """New processes read these when they start."""
    kept = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
