# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [SUITE ...] [--json]`: the figures of some suites, or of all."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence

from benchmarks.results import Result, merge, table
from dao.errors import BadUse, GridCommonsError

SUITES = {
    "gas": "what the contracts cost, on receipts of a real node",
    "market": "the solver against a plain sort and sweep and against pymarket",
    "meters": "digests, signatures, Merkle roots, and the lake",
    "forecast": "the closed form against Stan, accuracy against the naive",
    "balancing": "four weeks of plans, on measured days, with and without",
    "grid": "a year of power flow against pandapower's time series",
    "demo": "two days of the whole loop",
    "dashboard": "the pages in a browser, with a million readings behind, against an empty one",
    "audit": "a year of a zone as a dossier, exported and verified",
}
"""Suite, which is also the module here, and its line in the help. Imported when it is run."""

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites; 0, 1 on a failed check, 2 on bad use."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Rerun the figures of the README.",
        epilog="Suites: " + "; ".join(f"{name}: {what}" for name, what in SUITES.items()) + ".",
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all when none is named")
    parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")
    chosen = parser.parse_args(arguments)
    try:
        print(run(chosen.suites or list(SUITES), as_json=chosen.as_json))
    except GridCommonsError as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    return 0


def run(suites: Sequence[str], *, as_json: bool) -> str:
    """What the command prints. Raises BadUse on an unknown suite, before any runs."""
    for name in suites:
        if name not in SUITES:
            raise BadUse(f"unknown suite {name!r}; expected one of {', '.join(SUITES)}")
    results: list[Result] = []
    for name in dict.fromkeys(suites):
        print(f"Running {name} ...", file=sys.stderr, flush=True)
        results.append(importlib.import_module(f"benchmarks.{name}").run())
    merged = merge(results)
    return json.dumps(merged.as_dict(), indent=2) if as_json else table(merged)


if __name__ == "__main__":
    sys.exit(main())
