# SPDX-License-Identifier: Apache-2.0
"""Where the dashboard finds its node, its relay and its contracts.

Read from the environment and the state folder at every question, so that a run that begins later
is found; nothing is kept here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dao.errors import BadUse
from dao.node import Addresses, read_addresses
from dao.paths import deployment_path, home, run_state_path
from dao.runstate import RunState, read_run_state
from dao.urls import is_web_address
from dashboard.repositories.cache import Version, cached, version

RPC = "GRIDCOMMONS_RPC"
RELAY = "GRIDCOMMONS_RELAY"
ZONE = "GRIDCOMMONS_ZONE"
"""Environment variables. What they name goes before what a run says of itself."""

LOCAL_CHAIN = 31_337
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Settings:
    """Where everything is. `deployment` maps the names of contracts to addresses; None: no
    contracts are known yet. `local`: a chain of one's own on this machine, for trying out."""

    home: Path
    rpc: str | None = None
    relay: str | None = None
    chain_id: int | None = None
    deployment: dict[str, str] | None = None
    local: bool = False


def read_settings() -> Settings:
    """The settings as they are now. Raises CheckFailed or BadUse where a file is damaged."""
    run = current_run()
    rpc = _address(RPC) or (run.rpc if run else None)
    relay = _address(RELAY) or (run.relay if run else None)
    addresses = _addresses(deployment_path(), version(deployment_path()))
    chain_id = addresses.chain_id if addresses else None
    return Settings(
        home=home(),
        rpc=rpc,
        relay=relay,
        chain_id=chain_id,
        deployment=dict(addresses.contracts) if addresses else None,
        local=chain_id == LOCAL_CHAIN and rpc is not None and urlsplit(rpc).hostname in _LOOPBACK,
    )


def current_run() -> RunState | None:
    """What the running demo tells, None without one."""
    path = run_state_path()
    return _run(path, version(path))


def configured_zone() -> int | None:
    """The zone that the environment names."""
    named = os.environ.get(ZONE, "").strip()
    if not named:
        return None
    if not (named.isascii() and named.isdigit() and 1 <= int(named[:9]) <= 1_023):
        raise BadUse(f"{ZONE} is {named!r}; zones are numbers from 1 to 1023")
    return int(named)


def checked_address(name: str, url: str) -> str:
    """An address of HTTP without its last slash. BadUse, which says whose it is, for another."""
    if not is_web_address(url):
        raise BadUse(f"{name} is {url!r}; expected http://... or https://...")
    return url.rstrip("/")


def _address(variable: str) -> str | None:
    named = os.environ.get(variable, "").strip()
    return checked_address(variable, named) if named else None


@cached(ttl=3_600, max_entries=4)
def _run(path: Path, _: Version) -> RunState | None:
    return read_run_state(path)


@cached(ttl=3_600, max_entries=4)
def _addresses(path: Path, _: Version) -> Addresses | None:
    return read_addresses(path) if path.exists() else None
