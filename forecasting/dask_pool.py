# SPDX-License-Identifier: Apache-2.0
"""The same work on a Dask cluster that somebody else runs: `fanout` hands it on.

Dask is an extra and imported only here. A cluster that is not there, dies midway or runs other
versions ends the work with one line; it is never left waiting.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from dao.errors import BadUse, CheckFailed

if TYPE_CHECKING:
    from distributed import Client, Future

R = TypeVar("R")

CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 20.0
"""How long a cluster may be without any worker."""
_LOOK_SECONDS = 1.0
# Enough to keep every thread busy while results travel; all jobs at once would fill the scheduler.
_JOBS_PER_THREAD = 3
_SAME = ("numpy", "pandas", "prophet", "pvlib", "holidays")


def on_cluster(work: Callable[..., R], jobs: Sequence[tuple[Any, ...]], address: str) -> list[R]:
    """`work(*job)` for every job, in their order, on the cluster whose scheduler is at `address`.

    What `work` raises is raised here. Raises BadUse where Dask is not installed or the address is
    none, CheckFailed where no scheduler answers, its workers run other versions than this process,
    or the cluster dies before all is done.
    """
    try:
        from distributed import Client
    except ImportError:
        raise BadUse(
            "--dask needs Dask, which is not installed: install the extra gridcommons[dask], or "
            "leave --dask out"
        ) from None
    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise CheckFailed(f"no Dask scheduler answers at {address}") from error
        except (ValueError, TypeError, ImportError) as error:
            raise BadUse(
                f"--dask {address!r}: expected a scheduler's address like tcp://127.0.0.1:8786"
            ) from error
        try:
            with client.as_current():
                return _run(client, work, jobs, address)
        finally:
            client.close(timeout=CONNECT_SECONDS)


def versions() -> dict[str, str]:
    """What a forecast's bits depend on, as installed where this runs."""
    return {name: metadata.version(name) for name in _SAME}


def _run(
    client: Client, work: Callable[..., R], jobs: Sequence[tuple[Any, ...]], address: str
) -> list[R]:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, wait

    lost = f"the Dask cluster at {address} was lost with %d of {len(jobs)} jobs done"
    results: dict[int, R] = {}
    running: dict[Future, int] = {}
    rest = iter(range(len(jobs)))
    try:
        threads = _checked(client, address)
        seen = time.monotonic()
        while len(results) < len(jobs):
            while (
                len(running) < _JOBS_PER_THREAD * threads and (at := next(rest, None)) is not None
            ):
                running[client.submit(work, *jobs[at], pure=False)] = at
            try:
                wait(list(running), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
            except TimeoutError:
                if client.nthreads():
                    seen = time.monotonic()
                elif time.monotonic() - seen > PATIENCE_SECONDS:
                    raise CheckFailed(f"{lost % len(results)}: no worker is left") from None
                continue
            seen = time.monotonic()
            for future in [one for one in running if one.done()]:
                results[running.pop(future)] = future.result()
    except KilledWorker as error:
        raise CheckFailed(f"{lost % len(results)}: its workers died of the same job") from error
    except (OSError, CancelledError) as error:
        raise CheckFailed(lost % len(results)) from error
    return [results[at] for at in range(len(jobs))]


def _checked(client: Client, address: str) -> int:
    """How many threads the cluster has, once each worker has shown that it runs what we run."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
    except TimeoutError:
        raise CheckFailed(f"the Dask scheduler at {address} has no workers") from None
    here = versions()
    try:
        found = client.run(versions)
    except ImportError as error:
        raise CheckFailed(
            f"a Dask worker at {address} cannot run this ({error}): install gridcommons there"
        ) from error
    for worker, there in found.items():
        for name, version in here.items():
            if there.get(name) != version:
                raise CheckFailed(
                    f"the Dask worker {worker} has {name} {there.get(name)}, where this process "
                    f"has {version}: results would differ"
                )
    return max(1, sum(client.nthreads().values()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs every try to connect again; what came of it is told in one line instead."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    kept = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, kept, strict=True):
            logger.setLevel(level)
