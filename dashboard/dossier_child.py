# SPDX-License-Identifier: Apache-2.0
"""One dossier made or checked, in a process of its own, so that no visitor waits for it.

Started by `dashboard.repositories.dossiers`: what to do is in the environment as JSON, what happens
goes to standard output, one JSON object a line: `{"step": ...}`, then `{"done": ...}` or
`{"failed": ...}`. A file from a stranger can at worst end this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import zipfile
from pathlib import Path
from typing import Any

from dao.audit.scope import Period
from dao.errors import BadUse, CheckFailed, GridCommonsError

JOB = "GRIDCOMMONS_DOSSIER_JOB"
MAX_MEMORY = 6 << 30
"""Bytes of address space. Of that, a year of 150 homes takes a quarter."""
MAX_UNPACKED = 1 << 30
"""Bytes of a dossier's parts together; a year of 150 homes has a tenth of that."""
MAX_FILE = 1 << 30


def main() -> None:
    """Do the job that the environment names."""
    job = json.loads(os.environ.pop(JOB))
    os.nice(5)
    _limit(int(job["seconds"]))
    try:
        tell({"done": export(job) if job["kind"] == "export" else verify(job)})
    except BadUse as error:
        tell({"failed": str(error), "use": True})
    except GridCommonsError as error:
        tell({"failed": str(error), "use": False})
    except MemoryError:
        tell({"failed": "it needs more memory than a check may take here", "use": True})


def tell(what: dict[str, Any]) -> None:
    """One line to whoever started this."""
    print(json.dumps(what), flush=True)


def export(job: dict[str, Any]) -> dict[str, Any]:
    """A dossier, as `gridcommons audit export` makes it."""
    from dao.audit.export import Request
    from forecasting.dossier import Sources, write_dossier

    home, period = Path(job["home"]), Period(job["zone"], job["first_slot"], job["slots"])
    request = Request(
        period=period,
        rpc=job["rpc"],
        chain_id=job["chain_id"],
        addresses=job["addresses"],
        first_block=_first_block(home / "deployment.json"),
        tariffs=job["tariffs"],
        language=job["language"],
        index=home / "index.sqlite",
    )
    sources = Sources(
        lake=home / "lake", secrets=home / "secrets.sqlite", relay=home / "relay.sqlite"
    )
    path = Path(job["file"])
    manifest = write_dossier(request, sources, path, lambda words: tell({"step": words}))
    return {"root": manifest.root, "bytes": path.stat().st_size, "parts": len(manifest.parts)}


def _first_block(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["first_block"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckFailed("the deployment's first block is not known here") from None


def verify(job: dict[str, Any]) -> dict[str, Any]:
    """The checks of a dossier, as `gridcommons audit verify` makes them."""
    from dao.audit.package import Dossier
    from dao.audit.remote import Remote
    from dao.audit.verify import verify as check_all
    from dao.node import Addresses

    path = Path(job["file"])
    _check_size(path)
    remote = None if job["rpc"] is None else Remote(job["rpc"])
    known = None
    if job["chain_id"] is not None and job["addresses"] is not None:
        known = Addresses(job["chain_id"], job["addresses"])
    with Dossier(path) as dossier:
        checks = check_all(dossier, remote, known, notify=lambda name: tell({"step": name}))
        begin, end = dossier.scope.period.days
        return {
            "root": dossier.root,
            "zone": dossier.scope.period.zone,
            "from": begin.isoformat(),
            "to": end.isoformat(),
            "corrects": dossier.scope.corrects,
            "checks": [[one.name, one.state, one.detail] for one in checks],
        }


def _check_size(path: Path) -> None:
    """A small file can unpack to more than a machine holds. What is no zip, others will tell."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise BadUse(f"{path.name} unpacks to more than {MAX_UNPACKED >> 20} MB")


def _limit(seconds: int) -> None:
    """What this process may take, whatever it is given to read."""
    for what, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, MAX_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    main()
