# SPDX-License-Identifier: Apache-2.0
"""The audit dossier at scale: a year of a 150-home zone exported and verified, each in a process of
its own on the node that `audit_year` stands for, and a quarter of it to see whether cost is linear.

The dossier is exported twice and published; what is measured is what a person runs, start of the
interpreter included.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.audit_chain import serving
from benchmarks.audit_year import ADDRESSES, CHAIN_ID, START, Year, make
from benchmarks.results import Result
from dao.audit.package import Dossier
from dao.errors import CheckFailed
from dao.paths import cache_dir

DAYS, SHORT = 365, 91
_TIMEOUT_S = 3_600


def run(days: int = DAYS, short: int = SHORT) -> Result:
    """The figures `audit.*`: seconds of wall and processor time, MiB, and what a day costs in a
    year to what it costs in a quarter, in processor time."""
    figures: dict[str, float] = {}
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="audit-", dir=cache_dir()) as name:
        folder = Path(name)
        began = time.perf_counter()
        year = make(folder, days)
        print(f"  made in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        with serving(year.node()) as url:
            whole = _measured(year, folder, url, days)
            part = _measured(year, folder, url, short)
    for step in ("export", "verify"):
        figures[f"audit.{step}_s"] = whole[f"{step}_s"]
        figures[f"audit.{step}_cpu_s"] = whole[f"{step}_cpu_s"]
        figures[f"audit.{step}_mib"] = whole[f"{step}_mib"]
    figures["audit.dossier_mib"] = whole["dossier_mib"]
    figures["audit.readings"] = year.readings
    figures["audit.auctions"] = year.auctions
    figures["audit.orders"] = year.orders
    ratios = {
        f"audit.{step}_a_day_year_to_quarter": (whole[f"{step}_cpu_s"] / days)
        / (part[f"{step}_cpu_s"] / short)
        for step in ("export", "verify")
    }
    return Result(figures=figures, ratios=ratios)


def _measured(year: Year, folder: Path, url: str, days: int) -> dict[str, float]:
    """Export, publish and verify so many days; CheckFailed where the dossier does not hold, or a
    second export is not the same to the byte."""
    file = folder / f"dossier-{days}.zip"
    found = _child("export", folder, url, str(days), str(file))
    with Dossier(file) as dossier:
        period, root = dossier.scope.period, bytes.fromhex(dossier.root[2:])
    when = year.writer.blocks[max(year.writer.blocks)]
    collector = int(ADDRESSES["TestEuro"], 16)  # anybody, here
    year.anchors[root] = (period.zone, period.first_slot, period.slots, collector, when, 0, 0)
    verified = _child("verify", folder, url, str(days), str(file))
    return {
        "export_s": found["seconds"],
        "export_cpu_s": found["cpu_s"],
        "export_mib": found["mib"],
        "verify_s": verified["seconds"],
        "verify_cpu_s": verified["cpu_s"],
        "verify_mib": verified["mib"],
        "dossier_mib": round(file.stat().st_size / 2**20, 1),
    }


def _child(step: str, *arguments: object) -> dict[str, Any]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit", step, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"the audit benchmark: `{step}` ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def _export(folder: Path, url: str, days: int, file: Path) -> None:
    from dao.audit.export import Request
    from dao.audit.scope import Period
    from forecasting.dossier import Sources, write_dossier

    request = Request(
        period=Period.of_days(1, START, START + timedelta(days=days - 1)),
        rpc=url,
        chain_id=CHAIN_ID,
        addresses=ADDRESSES,
        first_block=1,
        tariffs={"feed_in": 79, "retail": 397, "grid_fee": 110},
    )
    sources = Sources(folder / "lake", folder / "secrets.sqlite")
    write_dossier(request, sources, file, _timed())


def _verify(url: str, file: Path) -> None:
    from dao.audit.remote import Remote
    from dao.audit.verify import verify

    say = _timed()
    with Dossier(file) as dossier:
        checks = verify(dossier, Remote(url), must_be_anchored=True, notify=say)
    for check in checks:
        if check.state == "failed" or (check.state == "not checked" and check.name != "contracts"):
            raise CheckFailed(f"{check.name}: {check.detail}")


def _timed() -> Any:
    """Says on stderr what begins when."""
    began = time.perf_counter()

    def say(what: str) -> None:
        if os.environ.get("GRIDCOMMONS_BENCH_STEPS"):
            print(f"  {time.perf_counter() - began:6.1f} s {what}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    _step, _folder, _url, _days, _file = sys.argv[1:]
    if _step == "export":
        _export(Path(_folder), _url, int(_days), Path(_file))
    else:
        _verify(_url, Path(_file))
    _used = resource.getrusage(resource.RUSAGE_SELF)
    _cpu = round(_used.ru_utime + _used.ru_stime, 1)
    print(json.dumps({"mib": _used.ru_maxrss // 1024, "cpu_s": _cpu}))
