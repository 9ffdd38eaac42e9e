# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter simulate`: simulated devices to try a gateway against."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from dao.errors import BadUse
from scripts._common import handles_errors, json_option, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meters.simulate.street import Place
    from meters.simulate.wire import Device

DEFAULT_ZONE = "1-LV-rural3--2-sw"
DEFAULT_START = "2016-06-01"
STREET = ("p1", "sml", "homewizard", "shelly", "fronius", "inverter", "p1-belgium")
"""What the homes of a street have in turn, where no kind is named."""


PATIENCE_SECONDS = 5
"""After this time a device that has not reached whom it calls is told of."""


@click.command()
@click.argument("kinds", metavar="[KIND]...", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Show the kinds of devices and of faults.")
@click.option("--zone", default=DEFAULT_ZONE, show_default=True, help="SimBench zone.")
@click.option(
    "--home", type=click.IntRange(0), default=0, show_default=True, help="The (first) home."
)
@click.option(
    "--homes",
    type=click.IntRange(1, 1_000),
    help="A street of so many homes, with the kinds in turn.  [default: one home, all kinds]",
)
@click.option(
    "--start",
    default=DEFAULT_START,
    show_default=True,
    help="Their time at the beginning: a date, a time with offset, like 2016-06-01T12:00Z, or now: "
    "a gateway believes no device whose clock is hours off.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=1,
    show_default=True,
    help="How many times as fast as real time.",
)
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option(
    "--listen",
    "listens",
    metavar="HOST:PORT",
    multiple=True,
    help="Where devices listen: once for the first, the others on the ports after it; or once for "
    "each. Port 0 takes free ones.  [default: 127.0.0.1:0]",
)
@click.option("--broker", metavar="mqtt://HOST:PORT", help="For kinds that publish over MQTT.")
@click.option("--csms", metavar="ws://HOST:PORT/PATH", help="For charge points: whom they call.")
@click.option("--battery-wh", type=click.IntRange(1, 10**8), default=10_000, show_default=True)
@click.option("--battery-w", type=click.IntRange(1, 10**6), default=5_000, show_default=True)
@click.option(
    "--fault",
    "faults",
    metavar="FAULT[@SECONDS]",
    multiple=True,
    help="A fault of all devices, from so many seconds of their time on.",
)
@json_option
@handles_errors
def simulate(
    kinds: tuple[str, ...],
    listing: bool,
    zone: str,
    home: int,
    homes: int | None,
    start: str,
    speed: float,
    seed: int,
    listens: tuple[str, ...],
    broker: str | None,
    csms: str | None,
    battery_wh: int,
    battery_w: int,
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run simulated devices that speak the real protocols on real sockets.

    They show what SimBench's homes use and feed in; this is demonstration data. Prints where each
    one is, and runs until Ctrl-C or SIGTERM. The kinds that publish need a --broker, a charge point
    a --csms. Without a KIND it is a P1 meter, or a street of mixed ones with --homes.
    """
    if listing:
        _list(as_json)
        return
    from dao.paths import cache_dir
    from meters.devices import CommunityBattery
    from meters.simulate.clock import ScaledClock
    from meters.simulate.faults import Fault
    from meters.simulate.street import Place, Street, Zone, kind_of

    # All that can be wrong is found before anything listens.
    for kind in kinds:
        kind_of(kind)
    began = _instant(start)
    wanted = tuple(Fault.parse(text, began) for text in faults)
    first_slot = int(began // 900)
    grid = Zone(zone, first_slot, seed, cache_dir())
    battery = CommunityBattery(battery_wh, battery_w, soc_wh=battery_wh // 2)
    try:
        # Before SimBench is read, which takes a while.
        cache_dir().mkdir(parents=True, exist_ok=True)
        placed = _places(
            kinds,
            homes,
            Place(
                grid,
                home,
                ScaledClock(began, speed),
                broker=broker,
                csms=csms,
                battery=battery,
                faults=wanted,
            ),
        )
        devices = _devices(placed, listens)
    except OSError as error:
        raise BadUse(f"cannot keep profiles in {cache_dir()}: {error.strerror or error}") from None
    stop = stop_on_signals()
    with Street(device for _, _, device in devices):
        _show(devices, as_json)
        if not stop.wait(PATIENCE_SECONDS):
            _say_who_is_alone(devices)
            stop.wait()


def _places(kinds: tuple[str, ...], homes: int | None, first: Place) -> list[tuple[str, Place]]:
    """Kind and place of every device: all kinds at one home, or the homes with them in turn."""
    from dataclasses import replace

    from meters.simulate.street import kind_of

    if homes is None:
        return [(kind, first) for kind in kinds or ("p1",)]
    chosen = kinds or STREET
    placed = []
    turn = 0
    for index in range(first.home, first.home + homes):
        has_roof = first.zone.home(index).has_solar
        # A home without a roof gets the next kind that it can have.
        for _ in chosen:
            kind = chosen[turn % len(chosen)]
            turn += 1
            if has_roof or not kind_of(kind).needs_roof:
                placed.append((kind, replace(first, home=index)))
                break
        else:
            raise BadUse(f"home {index} has no solar roof for a {', '.join(chosen)}")
    return placed


def _devices(
    placed: Sequence[tuple[str, Place]], listens: tuple[str, ...]
) -> list[tuple[str, int, Device]]:
    """Kind, home and device, each with its address to listen on."""
    from dataclasses import replace

    from meters.simulate.street import LISTENS, kind_of, make

    listening = [i for i, (kind, _) in enumerate(placed) if kind_of(kind).needs == LISTENS]
    at = dict(zip(listening, _addresses(listens, len(listening)), strict=True))
    # Two that call as the same one would throw each other out for ever.
    calling = [(kind, place.home) for i, (kind, place) in enumerate(placed) if i not in at]
    for kind, home in calling:
        if calling.count((kind, home)) > 1:
            raise BadUse(f"{kind} is named twice for home {home}: one of them can call")
    made = []
    for i, (kind, place) in enumerate(placed):
        host, port = at.get(i, ("127.0.0.1", 0))
        made.append((kind, place.home, make(kind, replace(place, host=host, port=port))))
    return made


def _addresses(listens: tuple[str, ...], count: int) -> list[tuple[str, int]]:
    given = [_address(text) for text in listens or ("127.0.0.1:0",)]
    if len(given) == 1:
        host, port = given[0]
        if port and port + count - 1 > 65_535:
            raise BadUse(f"{count} devices from port {port} on go beyond 65535")
        return [(host, port + i if port else 0) for i in range(count)]
    if len(given) != count:
        raise BadUse(f"--listen is given {len(given)} times for {count} devices that listen")
    return given


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise BadUse(f"--listen {text}: expected HOST:PORT, with a port up to 65535")
    return host.strip("[]"), int(port)


def _instant(text: str) -> float:
    if text == "now":
        return time.time()
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadUse(f"--start {text}: expected a date like {DEFAULT_START}") from None
    if when.tzinfo is None:
        if (when.hour, when.minute, when.second, when.microsecond) != (0, 0, 0, 0):
            raise BadUse(f"--start {text}: a time needs its offset, like {text}Z")
        when = when.replace(tzinfo=UTC)
    if when.year < 1971 or when.year > 2099:
        raise BadUse(f"--start {text}: expected a year from 1971 to 2099")
    return when.timestamp()


def _show(devices: Sequence[tuple[str, int, Device]], as_json: bool) -> None:
    if as_json:
        rows = [
            {"kind": kind, "home": home, "address": device.address}
            for kind, home, device in devices
        ]
        click.echo(json.dumps(rows))
    else:
        click.echo(f"{'kind':<16}{'home':>5}  address")
        for kind, home, device in devices:
            click.echo(f"{kind:<16}{home:>5}  {device.address}")
        click.echo("Demonstration data. Ctrl-C ends it.", err=True)


def _say_who_is_alone(devices: Sequence[tuple[str, int, Device]]) -> None:
    for kind, home, device in devices:
        if not getattr(device, "connected", True):
            click.echo(
                f"Note: {kind} of home {home} has not reached {device.address} yet; it goes on "
                "trying",
                err=True,
            )


def _list(as_json: bool) -> None:
    from meters.simulate.faults import TOLD
    from meters.simulate.street import KINDS

    if as_json:
        click.echo(
            json.dumps(
                {
                    "kinds": [
                        {"kind": name, "title": kind.title, "needs": kind.needs}
                        for name, kind in KINDS.items()
                    ],
                    "faults": [{"fault": kind.value, "does": does} for kind, does in TOLD.items()],
                }
            )
        )
        return
    click.echo("Kinds:")
    for name, kind in KINDS.items():
        click.echo(f"  {name:<16}{kind.title}")
    click.echo("Faults:")
    for fault, does in TOLD.items():
        click.echo(f"  {fault.value:<16}{does}")
