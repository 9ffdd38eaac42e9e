# SPDX-License-Identifier: Apache-2.0
"""Where state lies: everything under one folder, `$GRIDCOMMONS_HOME` or `./.gridcommons`.

The functions only name places, they create nothing; who writes calls `ensure_parent` first.
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The state folder as an absolute path, read from the environment at every call."""
    named = os.environ.get("GRIDCOMMONS_HOME", "").strip()
    return (Path(named).expanduser() if named else Path(".gridcommons")).absolute()


def lake_dir() -> Path:
    """Committed batches of readings: one Parquet file each, `zone=.../day=.../`."""
    return home() / "lake"


def inbox_path() -> Path:
    """The durable SQLite inbox of readings not yet committed."""
    return home() / "inbox.sqlite"


def secrets_path() -> Path:
    """The SQLite store of the homes' month secrets."""
    return home() / "secrets.sqlite"


def grants_path() -> Path:
    """Who may read whose readings, and who did."""
    return home() / "grants.sqlite"


def dispatches_path(inbox: Path) -> Path:
    """What gateways reported of devices that were called on: beside the collector's inbox."""
    return inbox.with_name("dispatch.sqlite")


def offers_path() -> Path:
    """Standing offers, and what the agent did about them."""
    return home() / "offers.sqlite"


def agent_keys_dir() -> Path:
    """The agent's keys: one keystore for each account."""
    return home() / "agent-keys"


def erasures_dir() -> Path:
    """What was erased when: no values."""
    return home() / "erasures"


def plan_path(proposal: int) -> Path:
    """The balancing plan that led to a proposal, beside the chain."""
    return home() / "plans" / f"0x{proposal:064x}.json"


def index_path() -> Path:
    """The SQLite index of chain events."""
    return home() / "index.sqlite"


def deployment_path() -> Path:
    """Addresses and block of the contracts in use."""
    return home() / "deployment.json"


def run_state_path() -> Path:
    """What the running demo tells the dashboard."""
    return home() / "run.json"


def cache_dir() -> Path:
    """What can be computed again: derived profiles, compiled artefacts."""
    return home() / "cache"


def ensure_parent(path: Path) -> Path:
    """Create the folder that `path` lies in and return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
