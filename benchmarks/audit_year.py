# SPDX-License-Identifier: Apache-2.0
"""A zone's year for the audit benchmark: readings in a real lake, and the logs of a chain.

What it stands for: 150 homes, 60 of them with solar, four sessions a day of 24 slots, every home
with a bid in every session and every solar home with an ask by day; a balancing vote a day in which
80 members vote; a forecast a day, scored; batches of a day. Logs are encoded as the contracts log
them, books and settlements follow from the orders by the project's own solver, leaves and roots
are real. Not there: device signatures in the lake, which no dossier reads, and execution: the node
that serves these logs only remembers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audit_chain import LogNode, block_hash, views_of
from dao.audit.event_list import abis
from dao.audit.market import share_columns
from dao.eip712 import address_bytes, checksum_address, keccak, word
from dao.forecasts import pack_quantiles
from dao.index import canonical
from dao.ledger import pack_totals
from dao.market.orders import ASK, BID, pages
from dao.market.solver import NULL_PRICE, clear_session
from dao.parameters import COMMUNITY_BATTERY, MARKET_RULES
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from meters.lake import write_batch
from meters.leaves import leaves_of, root_of_leaves
from meters.readings import Readings
from meters.secrets import DerivedSecrets, SecretStore

CHAIN_ID, ZONE = 31_337, 1
HOMES, SOLAR, VOTERS, MEMBERS = 150, 60, 80, 120
SLOTS = 24
FEE, BAND, PENALTY = 110, (0, 1_000), 100
START = date(2016, 1, 1)
NAMES = (
    *("TestEuro", "GridParameters", "MeterRegistry", "ReadingLedger", "Membership"),
    *("GridTimelock", "Treasury", "EnergyMarket", "UniformPriceAuction", "DeliveryAdjustments"),
    *("ForecastRegistry", "StandingPolicies", "GridGovernor", "DossierAnchor"),
)


def address(name: str) -> str:
    """An address by name."""
    return checksum_address(keccak(f"year {name}".encode())[12:])


ADDRESSES = {name: address(name) for name in NAMES}


@dataclass
class Writer:
    """Writes blocks of one transaction each; `log` adds to the last one."""

    logs: list[dict[str, Any]] = field(default_factory=list)
    blocks: dict[int, int] = field(default_factory=lambda: {0: 0})
    _types: dict[tuple[str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for contract, entries in abis().items():
            for entry in entries:
                kinds = [canonical(one) for one in entry["inputs"]]
                topic = "0x" + keccak(f"{entry['name']}({','.join(kinds)})".encode()).hex()
                indexed = [bool(one.get("indexed")) for one in entry["inputs"]]
                self._types[contract, entry["name"]] = topic, kinds, indexed

    def transaction(self, when: int) -> None:
        """A new block with one transaction, at a unix time or, if it is past, at once."""
        number = len(self.blocks)
        self.blocks[number] = max(when, self.blocks[number - 1])
        self._index = 0

    def log(self, contract: str, event: str, *values: Any) -> None:
        """One event of a contract, its arguments in their order."""
        from eth_abi.abi import encode

        topic, kinds, indexed = self._types[contract, event]
        topics, plain, rest = [topic], [], []
        for kind, is_topic, value in zip(kinds, indexed, values, strict=True):
            if is_topic:
                (one,) = [encode([kind], [value])]
                topics.append("0x" + one.hex())
            else:
                plain.append(kind)
                rest.append(value)
        number = len(self.blocks) - 1
        self.logs.append(
            {
                "address": ADDRESSES[contract].lower(),
                "topics": topics,
                "data": "0x" + encode(plain, rest).hex(),
                "blockNumber": hex(number),
                "blockHash": block_hash(number),
                "transactionHash": "0x" + keccak(b"tx" + word(number)).hex(),
                "logIndex": hex(self._index),
            }
        )
        self._index += 1

    def words(self, contract: str, event: str, *values: int) -> None:
        """As `log`, for arguments that are all words: many times as fast."""
        topic, _, indexed = self._types[contract, event]
        encoded = [value.to_bytes(32, "big").hex() for value in values]
        topics = ["0x" + one for one, is_topic in zip(encoded, indexed, strict=True) if is_topic]
        data = "".join(one for one, is_topic in zip(encoded, indexed, strict=True) if not is_topic)
        number = len(self.blocks) - 1
        self.logs.append(
            {
                "address": ADDRESSES[contract].lower(),
                "topics": [topic, *topics],
                "data": "0x" + data,
                "blockNumber": hex(number),
                "blockHash": block_hash(number),
                "transactionHash": "0x" + keccak(b"tx" + word(number)).hex(),
                "logIndex": hex(self._index),
            }
        )
        self._index += 1


@dataclass
class Year:
    """What was made: the node's logs, and what its views answer."""

    writer: Writer
    roots: dict[tuple[int, int, int], bytes]
    totals: dict[tuple[int, int], int]
    anchors: dict[bytes, tuple[int, int, int, int, int, int, int]] = field(default_factory=dict)
    readings: int = 0
    auctions: int = 0
    orders: int = 0

    def node(self) -> LogNode:
        """The node that remembers it."""
        return LogNode(
            CHAIN_ID,
            self.writer.logs,
            self.writer.blocks,
            list(ADDRESSES.values()),
            views_of(ADDRESSES, self.roots, self.totals, HOMES, self.anchors),
            1,
        )


def make(folder: Path, days: int) -> Year:
    """A year, or as many days of it: the lake and the secrets in `folder`, and the chain's logs."""
    first = first_slot_of_day(START)
    year = Year(Writer(), {}, {})
    source = DerivedSecrets(keccak(b"a year"))
    _found(year.writer, first * SLOT_SECONDS - 10 * 86_400)
    homes = _homes(days)
    with SecretStore(folder / "secrets.sqlite", source=source) as store:
        for month in range(-(-days // 28) + 1):
            at = first * SLOT_SECONDS // 86_400 // 30 + month
            store.month_secrets([(meter, at) for meter in range(1, HOMES + 1)])
        for day in range(days):
            slot = first + day * SLOTS_PER_DAY
            imported, exported = homes[0][day], homes[1][day]
            rows = Readings.columns(
                np.repeat(np.arange(1, HOMES + 1), SLOTS_PER_DAY),
                np.tile(np.arange(slot, slot + SLOTS_PER_DAY), HOMES),
                imported.T.reshape(-1),
                exported.T.reshape(-1),
            )
            leaves = leaves_of(rows, store)
            write_batch(folder / "lake", ZONE, slot, SLOTS_PER_DAY, rows, leaves)
            _day(year, slot, imported, exported, root_of_leaves(leaves), len(leaves))
            year.readings += len(rows)
    year.writer.transaction((first + (days + 5) * SLOTS_PER_DAY) * SLOT_SECONDS)
    folder.joinpath("deployment.json").write_text(
        json.dumps({"chain_id": CHAIN_ID, "first_block": 1, "contracts": ADDRESSES})
    )
    return year


def _homes(days: int) -> tuple[np.ndarray, np.ndarray]:
    """Import and export in Wh, int64 (days, slots, homes): load by the hour, solar by day and
    season."""
    rng = np.random.default_rng(7)
    hour = np.arange(SLOTS_PER_DAY) / 4
    load = 60 + 90 * np.exp(-((hour - 19) ** 2) / 8) + 40 * np.exp(-((hour - 7.5) ** 2) / 3)
    season = 0.6 - 0.5 * np.cos(2 * np.pi * (np.arange(days) + 10) / 365)
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0) * 1_200
    clear = rng.uniform(0.2, 1.0, days)
    scale, peak = rng.uniform(0.5, 2.0, HOMES), rng.uniform(0.4, 1.6, HOMES)
    peak[SOLAR:] = 0
    noise = rng.gamma(4.0, 0.25, (days, SLOTS_PER_DAY, HOMES))
    used = load[None, :, None] * scale * noise
    made = sun[None, :, None] * peak * (season * clear)[:, None, None]
    net = np.round(used - made).astype(np.int64)
    return np.maximum(net, 0), np.maximum(-net, 0)


def _found(writer: Writer, when: int) -> None:
    """What stands since the deployment: rules, homes, members."""
    writer.transaction(when)
    for rule in MARKET_RULES:
        writer.log("GridParameters", "RuleDefined", *rule.as_tuple())
    owners = [address(f"owner {n}") for n in range(1, HOMES + 1)]
    for number, owner in enumerate(owners, 1):
        device = address(f"device {number}")
        writer.log("MeterRegistry", "MeterRegistered", number, owner, ZONE, device)
    writer.transaction(when + 9 * 86_400)
    nobody = "0x" + "00" * 20
    for number, owner in enumerate(owners[:MEMBERS], 1):
        writer.log("Membership", "MemberAdmitted", owner, number, ZONE)
        writer.log("Membership", "DelegateChanged", owner, nobody, owner)


def _day(
    year: Year, slot: int, imported: np.ndarray, exported: np.ndarray, root: bytes, leaves: int
) -> None:
    """One day: evening before, sessions, batch, score. Blocks are in order of time by the day."""
    writer, midnight = year.writer, slot * SLOT_SECONDS
    forecaster = address("forecaster")
    net = (imported - exported).sum(axis=1)
    export = exported.sum(axis=1)
    writer.transaction(midnight - 19_000)
    writer.log("ForecastRegistry", "ForecastCommitted", forecaster, ZONE, slot, keccak(word(slot)))
    writer.transaction(midnight - 17_700)
    words = pack_quantiles(net - 4_000, net + 200, net + 5_000)
    writer.log(
        "ForecastRegistry", "ForecastRevealed", forecaster, ZONE, slot, keccak(b"evidence"), words
    )
    _vote(writer, slot, forecaster)
    sessions = [
        _post(year, first, imported[at : at + SLOTS], exported[at : at + SLOTS])
        for at, first in enumerate(range(slot, slot + SLOTS_PER_DAY, SLOTS))
        for at in [at * SLOTS]
    ]
    writer.transaction(midnight + 86_400 + 1_800)
    packed = pack_totals(net, export)
    writer.log(
        "ReadingLedger", "BatchCommitted", ZONE, slot, SLOTS_PER_DAY, root, HOMES, leaves, packed
    )
    year.roots[ZONE, slot, 1] = root
    for at in range(SLOTS_PER_DAY):
        lane = packed[at // 4] >> (64 * (at % 4)) & (2**64 - 1)
        year.totals[ZONE, slot + at] = lane
    for session in sessions:
        _settle(writer, *session)
    # Scored when it is final; told here, so that blocks stay in the order of the days.
    writer.transaction(midnight + 86_400 + 3_600)
    writer.log("ForecastRegistry", "ForecastScored", forecaster, ZONE, slot, 9_000, 10_000, 80)


def _vote(writer: Writer, slot: int, proposer: str) -> None:
    when = slot * SLOT_SECONDS - 17_400
    number = int.from_bytes(keccak(b"proposal" + word(slot)), "big")
    target = ADDRESSES["GridParameters"]
    writer.transaction(when)
    text = f"Community battery, slot {slot}"
    call = keccak(word(slot)) * 20
    writer.log(
        "GridGovernor",
        "ProposalCreated",
        *(number, proposer, [target], [0], [""], [call], when + 1, when + 10_801, text),
    )
    writer.log("GridGovernor", "ProposalLane", number, 1, ZONE)
    writer.transaction(when + 1_200)
    for voter in range(1, VOTERS + 1):
        owner = int(address(f"owner {voter}"), 16)
        # One support in eight is against. An empty text is an offset and a length of 0.
        writer.words(*("GridGovernor", "VoteCast"), owner, number, int(voter % 8 != 0), 1, 128 + 0)
        writer.logs[-1]["data"] += "00" * 32
        writer.words(
            "GridGovernor", "BallotReason", number, owner, int.from_bytes(keccak(b"r"), "big")
        )
    writer.transaction(when + 11_000)
    writer.log("GridGovernor", "ProposalQueued", number, when + 12_000)
    writer.transaction(when + 12_100)
    writer.log("GridParameters", "WindowOpened", ZONE, COMMUNITY_BATTERY, slot + 40, 8, 20_000)
    writer.log("GridGovernor", "ProposalExecuted", number)


def _post(year: Year, first: int, imported: np.ndarray, exported: np.ndarray) -> tuple[Any, ...]:
    """Post and clear a session whose homes ask for nine tenths of what they will draw, and offer
    nine tenths of what they will feed in, give or take."""
    rng = np.random.default_rng(first)
    writer, gate = year.writer, first * SLOT_SECONDS - 3_600
    guess = rng.uniform(0.6, 1.2, HOMES)
    bid = np.minimum(imported * guess, 60_000).astype(np.int64).T
    ask = np.minimum(exported[:, :SOLAR] * guess[:SOLAR], 60_000).astype(np.int64).T
    limits = np.r_[200 + np.arange(HOMES), 85 + np.arange(SOLAR)]
    account = np.r_[np.arange(1, HOMES + 1), np.arange(1, SOLAR + 1)]
    side = np.r_[np.full(HOMES, BID), np.full(SOLAR, ASK)]
    wh = np.concatenate([bid, ask])
    order = rng.permutation(np.flatnonzero(wh.sum(axis=1) >= 50))
    account, side, limits, wh = account[order], side[order], limits[order], wh[order]
    writer.transaction(gate - 600)
    writer.words("EnergyMarket", "SessionOpened", ZONE, first, SLOTS, gate, PENALTY)
    key = ZONE << 64 | first
    for page in pages(_words(account, side, limits, wh, gate)):
        data = b"".join(page)
        writer.log("EnergyMarket", "OrdersPosted", key, data)
    clearing = clear_session(side, limits, wh, band=BAND, fee=FEE)
    writer.transaction(gate + 60)
    for at, (price, volume) in enumerate(
        zip(clearing.chain_prices, clearing.volume_wh, strict=True)
    ):
        writer.words("EnergyMarket", "SlotCleared", ZONE, first + at, price, volume)
    year.auctions += SLOTS
    year.orders += len(order)
    return first, account, side, limits, wh, clearing, exported


def _words(
    account: np.ndarray, side: np.ndarray, limit: np.ndarray, wh: np.ndarray, gate: int
) -> Sequence[Any]:
    """The words of profile orders over the whole session, as bytes."""
    profile = np.zeros((len(account), 2, 16), dtype=">u2")
    profile[:, 0], profile[:, 1, : SLOTS - 16] = wh[:, :16], wh[:, 16:]
    packed = profile[:, :, ::-1].tobytes()
    found: list[bytes] = []
    for i in range(len(account)):
        header = int(account[i]) << 224 | 1 << 192 | gate << 136 | (int(side[i]) | 2) << 128
        header |= int(limit[i]) << 104 | SLOTS << 72
        found += [word(header), packed[64 * i : 64 * i + 32], packed[64 * i + 32 : 64 * i + 64]]
    return found


def _settle(
    writer: Writer,
    first: int,
    account: np.ndarray,
    side: np.ndarray,
    limits: np.ndarray,
    wh: np.ndarray,
    clearing: Any,
    exported: np.ndarray,
) -> None:
    is_bid = side == BID
    fills = np.asarray(clearing.fills)
    price = np.array([0 if p is None else p for p in clearing.prices], dtype=np.int64)
    traded = np.array([p is not None for p in clearing.prices])
    proved = np.where(is_bid[:, None], 0, np.minimum(fills, exported[:, account - 1].T))
    missing = np.where(is_bid[:, None], 0, fills - proved)
    delivered, penalties = proved.sum(axis=0), missing.sum(axis=0) * PENALTY
    bids = np.where(is_bid[:, None], fills, 0)
    bought, shared = share_columns(bids, delivered), share_columns(bids, penalties)
    held = wh.sum(axis=1) * np.where(is_bid, limits, PENALTY)
    paid = (bought * (price + FEE)).sum(axis=1) - shared.sum(axis=1)
    earned = (proved * price).sum(axis=1) - (missing * PENALTY).sum(axis=1)
    credit = held + np.where(is_bid, -paid, earned)
    sums = np.where(is_bid, bought.sum(axis=1), proved.sum(axis=1))
    writer.transaction((first + SLOTS) * SLOT_SECONDS + 2_400)
    for at in range(SLOTS):
        told = int(price[at]) if traded[at] else NULL_PRICE
        energy = int(delivered[at])
        writer.words(
            *("EnergyMarket", "SlotSettled"),
            *(ZONE, first + at, told, energy, energy * FEE, int(penalties[at])),
        )
    entries = b"".join(
        int(a).to_bytes(4, "big")
        + int(d).to_bytes(3, "big")
        + int(f).to_bytes(3, "big")
        + int(c).to_bytes(6, "big")
        for a, d, f, c in zip(account, sums, fills.sum(axis=1), credit, strict=True)
    )
    writer.log("EnergyMarket", "OrdersSettled", ZONE, first, first, SLOTS, entries)


__all__ = ["ADDRESSES", "CHAIN_ID", "START", "Year", "address_bytes", "make"]
