# SPDX-License-Identifier: Apache-2.0
"""The same code on a real cluster: a scheduler and two worker processes on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is an extra and not installed")

from distributed import LocalCluster

from dao.errors import BadUse, CheckFailed
from forecasting import dask_pool
from forecasting.backtest import Home, backtest
from forecasting.fanout import fan_out
from forecasting.homes import HomeInput, forecast_homes
from forecasting.model import Settings
from forecasting.series import IntervalSeries

Maker = Callable[..., IntervalSeries]
BERLIN = Settings(timezone="Europe/Berlin", country="DE")


def cluster_of(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=60,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with cluster_of(2) as made:
        yield made


def where(name: int) -> tuple[int, int]:
    time.sleep(0.2)
    return name, os.getpid()


def die(path: str) -> int:
    """Kill this worker the first time it is asked."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def sleep_long(_: int) -> None:
    time.sleep(60)


def test_both_workers_take_part_and_results_come_in_order(cluster: LocalCluster) -> None:
    done = fan_out(where, [(at,) for at in range(12)], dask=cluster.scheduler_address)
    assert [name for name, _ in done] == list(range(12))
    assert len({process for _, process in done} - {os.getpid()}) == 2


def test_a_cluster_gives_the_same_bits_as_the_pool_of_processes(
    cluster: LocalCluster, made_up: Maker
) -> None:
    homes = [Home(name, made_up(24, 3600, seed=at)) for at, name in enumerate("ab")]
    pooled = backtest(homes, 24, BERLIN, count=3, workers=2)
    there = backtest(homes, 24, BERLIN, count=3, dask=cluster.scheduler_address)
    for one, other in zip(pooled, there, strict=True):
        assert one.name == other.name
        assert one.bands.tobytes() == other.bands.tobytes()
        assert one.mean.tobytes() == other.mean.tobytes()
    inputs = [HomeInput(made_up(20, 3600, seed=seed), BERLIN) for seed in range(3)]
    for one, other in zip(
        forecast_homes(inputs, 24, workers=1),
        forecast_homes(inputs, 24, dask=cluster.scheduler_address),
        strict=True,
    ):
        assert one.q10.tobytes() == other.q10.tobytes()
        assert one.mean.tobytes() == other.mean.tobytes()


def test_what_the_work_raises_on_a_worker_is_raised_here(cluster: LocalCluster) -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out(divmod, [(1, 1), (1, 0)], dask=cluster.scheduler_address)


def test_a_worker_that_dies_midway_is_replaced(cluster: LocalCluster, tmp_path: Path) -> None:
    jobs = [(str(tmp_path / f"died-{at}"),) for at in range(2)]
    assert fan_out(die, jobs, dask=cluster.scheduler_address) == [7, 7]


def test_a_worker_with_another_version_is_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dask_pool.metadata.version
    monkeypatch.setattr(
        dask_pool.metadata, "version", lambda name: "9.9" if name == "prophet" else real(name)
    )
    with pytest.raises(CheckFailed, match=r"has prophet .*where this process has 9\.9"):
        fan_out(where, [(1,)], dask=cluster.scheduler_address)


def test_a_cluster_that_loses_its_workers_or_itself_ends_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    monkeypatch.setattr(dask_pool, "PATIENCE_SECONDS", 3.0)
    for lose in ("workers", "scheduler"):
        cluster = cluster_of(1)

        def stop(cluster: LocalCluster = cluster, lose: str = lose) -> None:
            time.sleep(2.0)
            if lose == "workers":
                cluster.scale(0)
            else:
                cluster.close()

        killer = threading.Thread(target=stop)
        killer.start()
        with pytest.raises(CheckFailed, match="was lost with 0 of 2 jobs done"):
            fan_out(sleep_long, [(1,), (2,)], dask=cluster.scheduler_address)
        killer.join()
        cluster.close()


def test_a_scheduler_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "PATIENCE_SECONDS", 0.5)
    with cluster_of(0) as empty, pytest.raises(CheckFailed, match="has no workers"):
        fan_out(where, [(1,)], dask=empty.scheduler_address)


def test_an_address_where_nothing_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, and not listened on
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CheckFailed, match="no Dask scheduler answers at tcp"):
            fan_out(where, [(1,)], dask=address)
    for odd in ("nonsense://x", "tcp://", "", "127.0.0.1"):
        with pytest.raises((BadUse, CheckFailed), match=r"expected a scheduler|no Dask scheduler"):
            fan_out(where, [(1,)], dask=odd)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadUse, match=r"gridcommons\[dask\]"):
        fan_out(where, [(1,)], dask="tcp://127.0.0.1:1")
