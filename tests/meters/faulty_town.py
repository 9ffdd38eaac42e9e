# SPDX-License-Identifier: Apache-2.0
"""A street of sixteen homes on a real node, twelve committed days, and what is wrong in it.

The first nine days are sound but for meter 9, which counts 70 % of what its home draws. Then
meter 7 stands still, the inverter of meter 2 dies, six readings of meter 5 never arrive, meter 4
tells two stories under one number, and on the last day the collector puts a reading under meter 6
that another key signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from dao import eip712, ledger
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, LocalAccount
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day, slot_start
from forecasting.grid import load_grid
from meters.collector import Collector
from meters.lake import totals_of, write_batch
from meters.leaves import leaves_of, root_of_leaves
from meters.readings import Readings
from meters.registry import KeyPeriods
from meters.secrets import SecretStore
from meters.signing import digests, heads_after, reading_separator, sign_chain, sign_chains
from tests.kept import bring_extract
from tests.meters.batch_rows import fleet
from tests.meters.conftest import CODE
from tests.meters.on_node import OnNode, addresses_of, deploy

ZONE, HOMES, DAYS = 1, 16, 12
FIRST_DAY = date(2016, 6, 1)
FIRST = first_slot_of_day(FIRST_DAY)
SOUND_DAYS = 9
ROOFS = (1, 2, 3, 10, 11, 12)
BYPASSED, BYPASS = 9, 0.3
FROZEN, FROZEN_AT = 7, FIRST + SOUND_DAYS * SLOTS_PER_DAY + 60
DEAD, DEAD_DAY = 2, FIRST + (SOUND_DAYS + 1) * SLOTS_PER_DAY
GAP, GAP_AT, GAP_SLOTS = 5, FIRST + (SOUND_DAYS + 1) * SLOTS_PER_DAY + 20, 6
FORK, FORK_AT = 4, FIRST + SOUND_DAYS * SLOTS_PER_DAY + 30
FORGED, FORGED_AT = 6, FIRST + (SOUND_DAYS + 2) * SLOTS_PER_DAY + 40
STRANGER = eip712.keccak(b"somebody else's key")


@dataclass(frozen=True)
class Street(OnNode):
    """The zone; in its folder lie deployment, feeder.csv and buses.csv, too."""


def true_values() -> tuple[np.ndarray, np.ndarray]:
    """What flows into and out of each home, (homes, slots) Wh."""
    slots = DAYS * SLOTS_PER_DAY
    random = np.random.default_rng(11)
    level = random.integers(80, 260, (HOMES, 1))
    load = level + random.integers(0, 400, (HOMES, slots)) * (random.random((HOMES, slots)) < 0.3)
    load += random.integers(0, 40, (HOMES, slots))
    sun = np.maximum(0, 22 - np.abs(np.arange(slots) % SLOTS_PER_DAY - 46)) * 30
    export = np.zeros_like(load)
    for meter in ROOFS:
        export[meter - 1] = np.maximum(0, sun * (9 + meter % 7) // 10 - load[meter - 1])
    return np.where(export > 0, 0, load), export


def metered_values() -> tuple[np.ndarray, np.ndarray]:
    imported, exported = (column.copy() for column in true_values())
    imported[BYPASSED - 1] = (imported[BYPASSED - 1] * (1 - BYPASS)).astype(np.int64)
    at = FROZEN_AT - FIRST
    imported[FROZEN - 1, at : at + 30] = imported[FROZEN - 1, at]
    dead = slice(DEAD_DAY - FIRST, DEAD_DAY - FIRST + SLOTS_PER_DAY)
    silent = exported[DEAD - 1, dead] > 0
    imported[DEAD - 1, dead][silent] = 90 + np.arange(silent.sum()) % 50
    exported[DEAD - 1, dead] = 0
    return imported, exported


def signed_readings(separator: bytes) -> Readings:
    imported, exported = metered_values()
    slots = DAYS * SLOTS_PER_DAY
    plain = Readings.columns(
        np.repeat(np.arange(1, HOMES + 1), slots),
        np.tile(np.arange(FIRST, FIRST + slots), HOMES),
        imported.reshape(-1),
        exported.reshape(-1),
    )
    keys = {gateway.meter: gateway.key for gateway in fleet(HOMES).gateways}
    return sign_chains(keys, separator, plain, {})


@contextmanager
def built(folder: Path) -> Iterator[Street]:
    with (
        AnvilNode(timestamp=(FIRST - SLOTS_PER_DAY) * SLOT_SECONDS) as running,
        Chain.local(running.url) as chain,
    ):
        owners = [eip712.address_of(eip712.keccak(f"owner {i}".encode())) for i in range(HOMES)]
        registry, book = deploy(chain, ZONE, owners)
        collecting = chain.accounts[2]
        addresses = addresses_of(registry, book)
        document = {"chain_id": addresses.chain_id, "contracts": dict(addresses.contracts)}
        (folder / "deployment.json").write_text(json.dumps(document))
        chain.set_time((FIRST + DAYS * SLOTS_PER_DAY) * SLOT_SECONDS + 3_600)
        separator = reading_separator(chain.chain_id, registry.address)
        with SecretStore(folder / "secrets.sqlite") as secrets:
            readings = signed_readings(separator)
            _collect(folder, registry, book, collecting, secrets, readings)
            _cheat(folder, book, collecting, secrets, readings, separator)
        write_feeder(folder)
        yield Street(chain, addresses, folder)


def _collect(
    folder: Path,
    registry: Contract,
    book: Contract,
    collecting: LocalAccount,
    secrets: SecretStore,
    readings: Readings,
) -> None:
    """All days but the last, as an honest collector takes them in."""
    chain = registry.chain
    separator = reading_separator(chain.chain_id, registry.address)
    lost = (
        (readings.meter == GAP) & (readings.slot >= GAP_AT) & (readings.slot < GAP_AT + GAP_SLOTS)
    )
    with Collector(
        ZONE,
        KeyPeriods.read(registry, ZONE),
        secrets,
        separator,
        folder / "lake",
        folder / "inbox.sqlite",
        clock=chain.now,
    ) as collector:
        for day in range(DAYS - 1):
            first = FIRST + day * SLOTS_PER_DAY
            here = (readings.slot >= first) & (readings.slot < first + SLOTS_PER_DAY)
            assert not collector.receive(readings.take(here & ~lost)).rejected
            if first <= FORK_AT < first + SLOTS_PER_DAY:
                report = collector.receive(_second_story(readings, separator))
                assert [rule for rule, *_ in report.rejected] == ["sequence"]
            batch = collector.close_batch(first, SLOTS_PER_DAY)
            _commit(
                book, collecting, first, batch.root, batch.leaves, batch.net_wh, batch.export_wh
            )
            collector.mark_committed(batch)


def _second_story(readings: Readings, separator: bytes) -> Readings:
    """Meter 4 signs another value under a number that it has used."""
    one = readings.take((readings.meter == FORK) & (readings.slot == FORK_AT))
    before = readings.take((readings.meter == FORK) & (readings.slot == FORK_AT - 1))
    head = heads_after(separator, before)[FORK]
    key = fleet(HOMES).gateways[FORK - 1].key
    return sign_chain(key, separator, replace(one, import_wh=one.import_wh + 500), head)


def _cheat(
    folder: Path,
    book: Contract,
    collecting: LocalAccount,
    secrets: SecretStore,
    readings: Readings,
    separator: bytes,
) -> None:
    """The last day, written past the collector, with a value that a stranger signed."""
    first = FIRST + (DAYS - 1) * SLOTS_PER_DAY
    rows = readings.take(readings.slot >= first)
    at = int(np.flatnonzero((rows.meter == FORGED) & (rows.slot == FORGED_AT))[0])
    rows.import_wh[at] = 5
    digest = digests(separator, rows.take(np.array([at])))[0]
    rows.signature[at] = np.frombuffer(eip712.sign_digest(STRANGER, digest), dtype=np.uint8)
    leaves = leaves_of(rows, secrets)
    write_batch(folder / "lake", ZONE, first, SLOTS_PER_DAY, rows, leaves, separator=separator)
    net, export, _ = totals_of(rows, first, SLOTS_PER_DAY)
    _commit(book, collecting, first, root_of_leaves(leaves), len(leaves), net, export)


def _commit(
    book: Contract,
    collecting: LocalAccount,
    first: int,
    root: bytes,
    leaves: int,
    net: np.ndarray,
    export: np.ndarray,
) -> None:
    ledger.commit(
        book,
        collecting,
        zone=ZONE,
        first_slot=first,
        root=root,
        homes=HOMES - 1,
        leaves=leaves,
        net_wh=net,
        export_wh=export,
    )


def write_feeder(folder: Path) -> None:
    """The transformer's meter, behind it, and where the homes are connected."""
    grid = load_grid(CODE, bring_extract(folder / "cache"))
    buses = grid.buses[-HOMES:].tolist()
    imported, exported = true_values()
    net = (imported - exported).T
    lines = grid.losses(net * 4.0, buses).lines / 4
    fed = np.rint(net.sum(axis=1) + lines).astype(np.int64)
    stamps = [f"{slot_start(FIRST + at):%Y-%m-%dT%H:%M:%SZ}" for at in range(len(fed))]
    rows = [
        f"{stamp},{max(wh, 0)},{max(-wh, 0)}"
        for stamp, wh in zip(stamps, fed.tolist(), strict=True)
    ]
    (folder / "feeder.csv").write_text("\n".join(["timestamp,import_wh,export_wh", *rows]) + "\n")
    places = [f"{meter},{bus}" for meter, bus in enumerate(buses, start=1)]
    (folder / "buses.csv").write_text("\n".join(["meter,bus", *places]) + "\n")
