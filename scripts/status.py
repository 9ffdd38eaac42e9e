# SPDX-License-Identifier: Apache-2.0
"""`gridcommons status`: how node, contracts, relay, keeper, agent and collector are, in a table."""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from dao.errors import BadUse, CheckFailed
from dao.json_input import loads
from scripts._common import LOCAL_NODE, LOCAL_RELAY, handles_errors, json_option, printable
from scripts._meter_collect import PORT, TOKEN_VARIABLE

if TYPE_CHECKING:
    from dao.node import Addresses, Node

COLLECTOR = f"http://127.0.0.1:{PORT}"
KEEPER_SILENT_S = 600
"""A keeper notes where it is every quarter of a minute, and waits five minutes at most."""
AGENT_SILENT_S = 600
"""An agent leaves word after every round, and waits five minutes at most."""
BLOCK_OLD_S = 600
_LOCAL_CHAIN = 31_337
_PATIENCE_S = 10
_MOST_BYTES = 1 << 20
_SHOWN_SILENT = 20

WELL, WRONG, UNCHECKED = "well", "wrong", "not checked"


@dataclass(frozen=True)
class Part:
    """How one part is: `state` is well, wrong or not checked; `about` says more."""

    part: str
    state: str
    about: str


@click.command(name="status")
@click.option(
    "--rpc", metavar="URL", help=f"A node of the chain.  [default: {LOCAL_NODE}, if it answers]"
)
@click.option("--relay", metavar="URL", help=f"[default: {LOCAL_RELAY}, if it answers]")
@click.option("--collector", metavar="URL", help=f"[default: {COLLECTOR}, if it answers]")
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option(
    "--deployment",
    "deployment_file",
    type=click.Path(path_type=Path),
    help="Where the addresses are written down.  [default: in the state folder, if it is there]",
)
@json_option
@handles_errors
def cli(
    rpc: str | None,
    relay: str | None,
    collector: str | None,
    zone: int,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Look at every part and say how it is.

    What is named has to answer; what is not named is looked at where it runs. Exits 0 if all is
    well, 1 if something is wrong or nothing could be looked at. With the operator's token in
    GRIDCOMMONS_OPERATOR_TOKEN the collector also tells which meters are silent.
    """
    from dao.node import Node, read_addresses
    from dao.paths import deployment_path, home

    for option, url in (("--rpc", rpc), ("--relay", relay), ("--collector", collector)):
        if url is not None:
            check_url(option, url)
    file = deployment_file or deployment_path()
    addresses = None
    if deployment_file is not None or file.exists():
        addresses = read_addresses(file)
    node = Node(rpc or LOCAL_NODE)
    parts = [
        *_looked(rpc, "node", lambda: _node(node, addresses, zone)),
        *_looked(relay, "relay", lambda: _relay((relay or LOCAL_RELAY).rstrip("/"))),
        _keeper(home() / "keeper.json"),
        _agent(home() / "agent.json"),
        *_looked(collector, "collector", lambda: _collector((collector or COLLECTOR).rstrip("/"))),
    ]
    if as_json:
        wrong = [part.part for part in parts if part.state == WRONG]
        rows = [asdict(part) for part in parts]
        click.echo(json.dumps({"ok": not wrong, "wrong": wrong, "parts": rows}))
    else:
        for part in parts:
            state = part.state if part.part else ""
            click.echo(f"{part.part:<11} {state:<12} {printable(part.about)}")
    if all(part.state == UNCHECKED for part in parts):
        raise CheckFailed("nothing is running here; name what to look at, see --help")
    if any(part.state == WRONG for part in parts):
        raise SystemExit(1)


class _Nothing(CheckFailed):
    """Nothing answers at an address."""


def check_url(option: str, url: str) -> None:
    """BadUse unless it is the address of a web service."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadUse(f"{option} {url}: expected an address like http://127.0.0.1:8560")


def _looked(named: str | None, name: str, look: Callable[[], Iterator[Part]]) -> list[Part]:
    """What looking gives. Nobody there is wrong only where somebody was named."""
    found: list[Part] = []
    try:
        for part in look():
            found.append(part)
    except _Nothing as error:
        found.append(Part(name, WRONG if named is not None else UNCHECKED, str(error)))
    except CheckFailed as error:
        away = isinstance(error.__cause__, OSError)
        state = UNCHECKED if away and named is None and not found else WRONG
        found.append(Part(name, state, str(error)))
    return found


def _node(node: Node, addresses: Addresses | None, zone: int) -> Iterator[Part]:
    chain_id, now = node.chain_id, node.now()
    age = round(time.time()) - now
    about = f"chain {chain_id}, latest block of {_utc(now)}"
    # A local chain's time is simulated.
    old = chain_id != _LOCAL_CHAIN and age > BLOCK_OLD_S
    yield Part("node", WRONG if old else WELL, f"{about}, {age} s ago" if old else about)
    if addresses is None:
        yield Part("contracts", UNCHECKED, "no deployment file; name it with --deployment")
        return
    if addresses.chain_id != chain_id:
        about = f"the deployment is of chain {addresses.chain_id}, the node of {chain_id}"
        yield Part("contracts", WRONG, about)
        return
    gone = [name for name, at in addresses.contracts.items() if not node.has_code(at)]
    if gone:
        yield Part("contracts", WRONG, f"not on this chain: {', '.join(gone)}")
        return
    yield Part("contracts", WELL, f"{len(addresses.contracts)} on chain")
    if "ReadingLedger" in addresses.contracts:
        (until,) = node.view(addresses["ReadingLedger"], "committed_until(uint256)", zone)
        about = f"zone {zone} complete until {_utc(until * 900)}" if until else "not begun"
        yield Part("ledger", WELL, about)


def _relay(url: str) -> Iterator[Part]:
    health = _get(url + "/v1/health")
    problems = [str(problem) for problem in _list(health, "problems")]
    waiting = health.get("orders")
    counts = waiting if isinstance(waiting, dict) else {}
    about = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    well = health.get("status") == "ok" and not problems
    yield Part("relay", WELL if well else WRONG, "; ".join(problems) or about or "no orders")


def _keeper(file: Path) -> Part:
    try:
        age = max(round(time.time() - file.stat().st_mtime), 0)
    except OSError:
        return Part("keeper", UNCHECKED, f"no {file.name} in the state folder")
    about = f"{file.name} is {age} s old"
    return Part("keeper", WRONG if age > KEEPER_SILENT_S else WELL, about)


def _agent(file: Path) -> Part:
    try:
        age = max(round(time.time() - file.stat().st_mtime), 0)
        told = loads(file.read_bytes()[:_MOST_BYTES])
    except OSError:
        return Part("agent", UNCHECKED, f"no {file.name} in the state folder")
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return Part("agent", WRONG, f"{file.name} is not an agent's")
    about = f"follows {told.get('offers')} offers of zone {told.get('zone')}, last {age} s ago"
    if told.get("well") is not True:
        return Part("agent", WRONG, f"{about}; its last round failed, see its log")
    return Part("agent", WRONG if age > AGENT_SILENT_S else WELL, about)


def _collector(url: str) -> Iterator[Part]:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token and _is_private(url) else {}
    told = _get(url + "/status.json", headers)
    ledger, traffic, meters = (_map(told, name) for name in ("ledger", "traffic", "meters"))
    problems = [str(problem) for problem in _list(told, "problems")]
    about = (
        f"zone {told.get('zone')}, ledger until {ledger.get('until') or 'not begun'}, "
        f"{_map(told, 'inbox').get('waiting')} waiting, {traffic.get('accepted')} accepted, "
        f"{_map(meters, 'silent').get('1h')} of {meters.get('registered')} meters silent for 1 h"
    )
    well = told.get("ok") is True and not problems
    yield Part("collector", WELL if well else WRONG, "; ".join([*problems, about]))
    for warning in _list(told, "warnings"):
        yield Part("", WELL, str(warning))
    silent = [one for one in _list(told, "silent_meters") if isinstance(one, dict)]
    if silent:
        names = ", ".join(str(one.get("meter")) for one in silent[:_SHOWN_SILENT])
        more = len(silent) - _SHOWN_SILENT
        yield Part("", WELL, f"silent: {names}{f' and {more} more' if more > 0 else ''}")


def _get(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A JSON object. CheckFailed where something else answers."""
    import requests

    try:
        with requests.get(
            url, headers=headers, timeout=_PATIENCE_S, stream=True, allow_redirects=False
        ) as answer:
            body = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
            status = answer.status_code
    except requests.ConnectionError:
        raise _Nothing(f"nothing answers at {url}") from None
    except (requests.RequestException, OSError) as error:
        raise CheckFailed(f"{url} does not answer in time ({type(error).__name__})") from None
    except Exception as error:  # urllib3's own errors while a body is read
        raise CheckFailed(f"{url} broke off ({type(error).__name__})") from None
    try:
        document = loads(body) if len(body) <= _MOST_BYTES else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or status != 200:
        raise CheckFailed(f"{url} answers {status}, and not with a status")
    return document


def _is_private(url: str) -> bool:
    """Whether a secret may be sent there: encrypted, or within this machine."""
    parts = urlsplit(url)
    try:
        within = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        within = parts.hostname == "localhost"
    return parts.scheme == "https" or within


def _map(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _list(document: dict[str, Any], name: str) -> list[Any]:
    found = document.get(name)
    return found if isinstance(found, list) else []


def _utc(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
