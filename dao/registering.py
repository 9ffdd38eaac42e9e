# SPDX-License-Identifier: Apache-2.0
"""Metering points from a list to the registry: what the list says, what of it the chain has, and
what is left to send. Which key spoke when afterwards is the contract's matter.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dao.chain import Account
from dao.deployment import Deployment
from dao.eip712 import checksum_address
from dao.errors import BadUse, CheckFailed

BATCH = 100
"""Points of one transaction: 128 are the most a contract takes."""
MOST_POINTS = 10_000
MAX_ZONE = 1_023

_COLUMNS = ("owner", "device", "zone", "meter")
_NOBODY = "0x" + "00" * 20


@dataclass(frozen=True)
class Point:
    """A metering point that is to be. meter: the number that its gateway was set up with, None
    where any will do. line: where it stands in the list."""

    owner: str
    device: str
    zone: int
    meter: int | None
    line: int


@dataclass(frozen=True)
class Registered:
    """A metering point in the registry; is_new: since now."""

    meter: int
    owner: str
    device: str
    zone: int
    is_new: bool


def read_points(text: str, zone: int) -> list[Point]:
    """The points of a CSV with the columns owner and device, and zone and meter where given;
    `zone` where the list names none. BadUse, with the line, for anything that cannot be."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if any(row)]
    except csv.Error as error:
        raise BadUse(f"the list is not CSV: {error}") from None
    head = [name.strip().lower() for name in rows[0]] if rows else []
    if not {"owner", "device"} <= set(head) or len(set(head)) < len(head):
        raise BadUse("the list's first line names its columns: owner, device, and zone or meter")
    for name in head:
        if name not in _COLUMNS:
            raise BadUse(f"the list has an unknown column {name!r}; known: {', '.join(_COLUMNS)}")
    if not 1 <= len(rows) - 1 <= MOST_POINTS:
        raise BadUse(f"the list holds {len(rows) - 1} points, expected 1 to {MOST_POINTS}")
    points = []
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise BadUse(f"row {line} of the list has {len(row)} fields, not {len(head)}")
        fields = dict(zip(head, (value.strip() for value in row), strict=True))
        points.append(
            Point(
                owner=_address(fields["owner"], f"row {line}: owner"),
                device=_address(fields["device"], f"row {line}: device"),
                zone=_number(fields.get("zone") or str(zone), f"row {line}: zone", MAX_ZONE),
                meter=_number(fields["meter"], f"row {line}: meter", 2**32 - 1)
                if fields.get("meter")
                else None,
                line=line,
            )
        )
    _check_twice([point.device for point in points], "device")
    _check_twice([point.meter for point in points if point.meter is not None], "meter")
    return points


def _check_twice(values: Sequence[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise BadUse(f"the {what} {value} stands twice in the list")
        seen.add(value)


def _address(text: str, what: str) -> str:
    try:
        address = checksum_address(text)
    except ValueError:
        raise BadUse(f"{what} {text[:50]!r}: expected an address of 20 bytes, 0x...") from None
    if address == _NOBODY:
        raise BadUse(f"{what}: the zero address is nobody's")
    return address


def _number(text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise BadUse(f"{what} {text[:20]!r}: expected a whole number, 1 to {most}")
    return int(text)


def next_meter(deployment: Deployment) -> int:
    """The number that the next metering point gets."""
    return int(deployment["MeterRegistry"].call("meter_count")) + 1


def plan(deployment: Deployment, points: Sequence[Point]) -> tuple[list[Registered], list[Point]]:
    """What of a list is registered already, and what is to be, in the order of its numbers.

    A list can be given again where it broke off. BadUse where a device speaks for another point,
    or where a point would get another number than the list says; nothing is sent.
    """
    registry = deployment["MeterRegistry"]
    known, fresh = [], []
    for point in points:
        meter = int(registry.call("meter_of_device", point.device))
        if not meter:
            fresh.append(point)
            continue
        owner, zone = registry.call("metering_point", meter)
        same = owner == point.owner and zone == point.zone and point.meter in (None, meter)
        if not same:
            raise BadUse(
                f"row {point.line}: the device {point.device} speaks for meter {meter} of {owner} "
                f"in zone {zone} already; a device speaks for one meter only"
            )
        known.append(Registered(meter, owner, point.device, zone, is_new=False))
    if any(point.meter is not None for point in fresh):
        fresh.sort(key=lambda point: point.meter or 0)
    first = next_meter(deployment)
    for number, point in enumerate(fresh, start=first):
        if point.meter not in (None, number):
            raise BadUse(
                f"row {point.line}: the registry would give the number {number}, not "
                f"{point.meter}; new points are numbered without a gap from {first} on"
            )
    return known, fresh


def register(
    deployment: Deployment, registrar: Account, points: Sequence[Point]
) -> Iterator[list[Registered]]:
    """Register points, a batch after the other; each is on the chain when it is given."""
    registry = deployment["MeterRegistry"]
    office = str(registry.call("registrar"))
    if office.lower() != registrar.address.lower():
        raise CheckFailed(
            f"{registrar.address} is not the registrar: that is {office}; choose its account with "
            "--account"
        )
    for zone, group in groupby(points, key=lambda point: point.zone):
        run = list(group)
        for start in range(0, len(run), BATCH):
            part = run[start : start + BATCH]
            receipt = registry.transact(
                "register_batch",
                [point.owner for point in part],
                [point.device for point in part],
                zone,
                sender=registrar,
            )
            # The registry says which number went to whom.
            given = {
                str(event.args["device"]).lower(): int(event.args["meter"])
                for event in receipt.events
                if event.name == "MeterRegistered"
            }
            done = [
                Registered(given[point.device.lower()], point.owner, point.device, zone, True)
                for point in part
            ]
            yield done
            for point, made in zip(part, done, strict=True):
                if point.meter not in (None, made.meter):
                    raise CheckFailed(
                        f"the device of row {point.line} got the number {made.meter}, not "
                        f"{point.meter}: somebody registered at the same time; set its gateway's "
                        "meter to that, and give the rest of the list new numbers"
                    )


def open_accounts(deployment: Deployment, payer: Account, meters: Sequence[int]) -> int:
    """Open the market's accounts of metering points that have none yet; how many."""
    market = deployment["EnergyMarket"]
    missing = [meter for meter in meters if market.call("account", meter)[0] == _NOBODY]
    for start in range(0, len(missing), BATCH):
        market.transact("open_accounts", missing[start : start + BATCH], sender=payer)
    return len(missing)
