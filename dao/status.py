# SPDX-License-Identifier: Apache-2.0
"""How every part of a deployment is: node, contracts, relay, keeper, agent, collector. For
`gridcommons status` and the dashboard's page for operators, which word it each in their own way.

What is due on chain, and whose money pays for it, is in `due`. Nothing secret is told: an address
on the web is named by its host alone where `Places.shown` says so.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dao.errors import BadUse, CheckFailed
from dao.json_input import loads
from dao.node import Addresses, Node
from dao.rpc import Refused
from dao.urls import is_web_address

LOCAL_NODE = "http://127.0.0.1:8545"
LOCAL_RELAY = "http://127.0.0.1:8550"
LOCAL_COLLECTOR = "http://127.0.0.1:8560"
TOKEN_VARIABLE = "GRIDCOMMONS_OPERATOR_TOKEN"

KEEPER_SILENT_S = 600
"""A keeper notes where it is every quarter of a minute, and waits five minutes at most."""
AGENT_SILENT_S = 600
"""An agent leaves word after every round, and waits five minutes at most."""
BLOCK_OLD_S = 600
PATIENCE_S = 10.0
LOCAL_CHAIN = 31_337
_MOST_BYTES = 1 << 20
_SHOWN_SILENT = 20
_MOST_SAID = 20


class State(StrEnum):
    """How a part is."""

    WELL = "well"
    WRONG = "wrong"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Part:
    """How one part is. about: it in English, in one line. code: which sentence that is, and facts:
    what stands in it, for whoever says it otherwise. said: problems and warnings in the words of
    the part itself. A part without a name says more about the one before."""

    part: str
    state: State
    about: str
    code: str = ""
    facts: Mapping[str, int | str | None] = field(default_factory=dict)
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where to look. Of rpc, relay and collector None means where it would run by itself: nobody
    there is then no fault. shown: whether addresses are told whole; else their host."""

    home: Path
    zone: int = 1
    rpc: str | None = None
    relay: str | None = None
    collector: str | None = None
    contracts: tuple[tuple[str, str], ...] | None = None
    chain_id: int | None = None
    patience_s: float = PATIENCE_S
    shown: bool = True

    @property
    def addresses(self) -> Addresses | None:
        """The deployment, None where none is known."""
        if self.contracts is None or self.chain_id is None:
            return None
        return Addresses(self.chain_id, dict(self.contracts))

    def node(self) -> Node:
        """The node to ask."""
        url = self.rpc or LOCAL_NODE
        return Node(url, shown=self.name(url), patience_s=self.patience_s)

    def name(self, url: str) -> str:
        """An address as it may be told."""
        if self.shown:
            return url
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def look(places: Places, deadline_s: float | None = None) -> list[Part]:
    """Look at every part, all at once. What does not answer by the deadline is told so."""
    return gathered(
        {
            "node": partial(_looked, places, "node", places.rpc, LOCAL_NODE, _node),
            "relay": partial(_looked, places, "relay", places.relay, LOCAL_RELAY, _relay),
            "keeper": lambda: [_keeper(places.home / "keeper.json")],
            "agent": lambda: [_agent(places.home / "agent.json")],
            "collector": partial(
                _looked, places, "collector", places.collector, LOCAL_COLLECTOR, _collector
            ),
        },
        deadline_s,
    )


def gathered(
    looks: Mapping[str, Callable[[], list[Part]]], deadline_s: float | None = None
) -> list[Part]:
    """The parts that several looks at once find, in their order; one that is not back by the
    deadline counts as wrong, and nobody waits for it."""
    pool = ThreadPoolExecutor(max_workers=max(1, len(looks)), thread_name_prefix="status")
    asked = {name: pool.submit(one) for name, one in looks.items()}
    wait(asked.values(), deadline_s)
    pool.shutdown(wait=False, cancel_futures=True)
    found: list[Part] = []
    for name, answer in asked.items():
        if not answer.done():
            found.append(Part(name, State.WRONG, "does not answer in time", "late"))
            continue
        try:
            found += answer.result()
        except Exception as error:  # whatever answers may answer anything; the others still count
            about = f"what answers cannot be understood ({type(error).__name__})"
            found.append(Part(name, State.WRONG, about, "unreadable"))
    return found


class Nothing(CheckFailed):
    """Nothing answers at an address."""


def check_url(option: str, url: str) -> None:
    """BadUse unless it is the address of a web service."""
    if not is_web_address(url):
        raise BadUse(f"{option} {url}: expected an address like http://127.0.0.1:8560")


def _looked(
    places: Places,
    name: str,
    named: str | None,
    otherwise: str,
    look: Callable[[Places], Iterator[Part]],
) -> list[Part]:
    """What looking gives. Nobody there is wrong only where somebody was named."""
    found: list[Part] = []
    try:
        for part in look(places):
            found.append(part)
    except CheckFailed as error:
        away = isinstance(error, Nothing) or isinstance(error.__cause__, OSError)
        calm = away and named is None and not found
        state = State.UNCHECKED if calm else State.WRONG
        facts = {"where": places.name(named or otherwise)}
        found.append(Part(name, state, str(error), "away" if away else "odd", facts))
    return found


def _node(places: Places) -> Iterator[Part]:
    node, addresses = places.node(), places.addresses
    chain_id, now = node.chain_id, node.now()
    age = round(time.time()) - now
    about = f"chain {chain_id}, latest block of {utc(now)}"
    # A local chain's time is simulated.
    is_local = chain_id == LOCAL_CHAIN
    old = not is_local and age > BLOCK_OLD_S
    yield Part(
        "node",
        State.WRONG if old else State.WELL,
        f"{about}, {age} s ago" if old else about,
        "old" if old else "node",
        {
            "chain": chain_id,
            "time": now,
            "age_s": None if is_local else max(age, 0),
            "client": _client(node),
        },
    )
    if addresses is None:
        about = "no deployment file; name it with --deployment"
        yield Part("contracts", State.UNCHECKED, about, "no-deployment")
        return
    if addresses.chain_id != chain_id:
        about = f"the deployment is of chain {addresses.chain_id}, the node of {chain_id}"
        facts = {"deployed": addresses.chain_id, "chain": chain_id}
        yield Part("contracts", State.WRONG, about, "other-chain", facts)
        return
    gone = [name for name, at in addresses.contracts.items() if not node.has_code(at)]
    if gone:
        names = ", ".join(gone)
        about = f"not on this chain: {names}"
        yield Part("contracts", State.WRONG, about, "gone", {"names": names})
        return
    count = len(addresses.contracts)
    yield Part("contracts", State.WELL, f"{count} on chain", "contracts", {"count": count})
    if "ReadingLedger" in addresses.contracts:
        ledger = addresses["ReadingLedger"]
        (until,) = node.view(ledger, "committed_until(uint256)", places.zone)
        about = f"zone {places.zone} complete until {utc(until * 900)}" if until else "not begun"
        facts = {"zone": places.zone, "until": until * 900}
        yield Part("ledger", State.WELL, about, "ledger" if until else "not-begun", facts)


def _client(node: Node) -> str | None:
    """The node's program and its version, where it says so."""
    try:
        return str(node.ask("web3_clientVersion"))[:80]
    except Refused:
        return None


def _relay(places: Places) -> Iterator[Part]:
    url = (places.relay or LOCAL_RELAY).rstrip("/")
    health = _get(places, url, "/v1/health")
    problems = tuple(str(problem)[:300] for problem in _list(health, "problems")[:_MOST_SAID])
    counts = _map(health, "orders")
    about = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    well = health.get("status") == "ok" and not problems
    yield Part(
        "relay",
        State.WELL if well else State.WRONG,
        "; ".join(problems) or about or "no orders",
        "relay",
        {
            "orders": _sum(counts),
            "broken": _number(health.get("broken_promises")),
            "waiting_since": _number(health.get("waiting_since")),
        },
        problems,
    )


def _keeper(file: Path) -> Part:
    try:
        age = max(round(time.time() - file.stat().st_mtime), 0)
    except OSError:
        about = f"no {file.name} in the state folder"
        return Part("keeper", State.UNCHECKED, about, "no-file", {"file": file.name})
    about = f"{file.name} is {age} s old"
    silent = age > KEEPER_SILENT_S
    return Part(
        "keeper",
        State.WRONG if silent else State.WELL,
        about,
        "silent" if silent else "keeper",
        {"age_s": age},
    )


def _agent(file: Path) -> Part:
    try:
        age = max(round(time.time() - file.stat().st_mtime), 0)
        told = loads(file.read_bytes()[:_MOST_BYTES])
    except OSError:
        about = f"no {file.name} in the state folder"
        return Part("agent", State.UNCHECKED, about, "no-file", {"file": file.name})
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return Part("agent", State.WRONG, f"{file.name} is not an agent's", "odd")
    about = f"follows {told.get('offers')} offers of zone {told.get('zone')}, last {age} s ago"
    facts = {"offers": _number(told.get("offers")), "age_s": age}
    if told.get("well") is not True:
        about = f"{about}; its last round failed, see its log"
        return Part("agent", State.WRONG, about, "failed", facts)
    silent = age > AGENT_SILENT_S
    state = State.WRONG if silent else State.WELL
    return Part("agent", state, about, "silent" if silent else "agent", facts)


def _collector(places: Places) -> Iterator[Part]:
    url = (places.collector or LOCAL_COLLECTOR).rstrip("/")
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token and _is_private(url) else {}
    told = _get(places, url, "/status.json", headers)
    ledger, traffic, meters = (_map(told, name) for name in ("ledger", "traffic", "meters"))
    problems = tuple(str(problem)[:300] for problem in _list(told, "problems")[:_MOST_SAID])
    warnings = tuple(str(warning)[:300] for warning in _list(told, "warnings")[:_MOST_SAID])
    waiting, silent = _map(told, "inbox").get("waiting"), _map(meters, "silent").get("1h")
    about = (
        f"zone {told.get('zone')}, ledger until {ledger.get('until') or 'not begun'}, "
        f"{waiting} waiting, {traffic.get('accepted')} accepted, "
        f"{silent} of {meters.get('registered')} meters silent for 1 h"
    )
    well = told.get("ok") is True and not problems
    yield Part(
        "collector",
        State.WELL if well else State.WRONG,
        "; ".join([*problems, about]),
        "collector",
        {
            "waiting": _number(waiting),
            "silent": _number(silent),
            "meters": _number(meters.get("registered")),
        },
        (*problems, *warnings),
    )
    for warning in warnings:
        yield Part("", State.WELL, warning, "warning")
    lost = [one for one in _list(told, "silent_meters") if isinstance(one, dict)]
    if lost:
        names = ", ".join(str(one.get("meter")) for one in lost[:_SHOWN_SILENT])
        more = len(lost) - _SHOWN_SILENT
        about = f"silent: {names}{f' and {more} more' if more > 0 else ''}"
        yield Part("", State.WELL, about, "silent-meters", {"names": names})


def _get(
    places: Places, base: str, path: str, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A JSON object. CheckFailed where something else answers."""
    import requests

    shown = places.name(base + path)
    try:
        with requests.get(
            base + path,
            headers=headers,
            timeout=places.patience_s,
            stream=True,
            allow_redirects=False,
        ) as answer:
            body = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
            status = answer.status_code
    except requests.ConnectionError:
        raise Nothing(f"nothing answers at {shown}") from None
    except (requests.RequestException, OSError) as error:
        raise CheckFailed(f"{shown} does not answer in time ({type(error).__name__})") from None
    except Exception as error:  # urllib3's own errors while a body is read
        raise CheckFailed(f"{shown} broke off ({type(error).__name__})") from None
    try:
        document = loads(body) if len(body) <= _MOST_BYTES else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or status != 200:
        raise CheckFailed(f"{shown} answers {status}, and not with a status")
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


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sum(counts: Mapping[str, Any]) -> int:
    return sum(_number(count) or 0 for count in counts.values())


def utc(seconds: int) -> str:
    """A moment as the command tells it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
