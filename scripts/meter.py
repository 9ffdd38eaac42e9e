# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter`: a device's or portal's raw bytes to normalised readings."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from dao.errors import BadUse
from scripts import _meter_faults, _meter_privacy, _meter_vee
from scripts._common import handles_errors, json_option, printable, read_input
from scripts._meter_collect import collect
from scripts._meter_gateway import gateway
from scripts._meter_register import register
from scripts._meter_simulate import simulate

if TYPE_CHECKING:
    from meters.adapters.engine import MeterReading

SHOWN_ROWS = 40
"""Rows of the table for people; --json holds every reading."""
SHOWN_NOTES = 20


class InOrder(click.Group):
    """A group that lists its commands on the way of a reading, not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(name="meter", cls=InOrder)
def cli() -> None:
    """Read what meters say; collect it; open, grant and erase a home's readings."""


@cli.command()
@click.argument("names", metavar="[ADAPTER]...", nargs=-1)
@json_option
@handles_errors
def adapters(names: tuple[str, ...], as_json: bool) -> None:
    """List the adapters, or the conventions of some."""
    from dataclasses import asdict

    from meters.adapters.engine import adapter_names, load_adapter

    listed = [load_adapter(name) for name in names or adapter_names()]
    if as_json:
        rows = [{"name": a.name, "title": a.title, **asdict(a.conventions)} for a in listed]
        click.echo(json.dumps(rows))
        return
    for adapter in listed:
        click.echo(f"{adapter.name:<18}{adapter.title}")
        for what, says in asdict(adapter.conventions).items() if names else ():
            click.echo(f"  {what:<10}{says}")


@cli.command()
@click.argument("adapter")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--meter", help="Name of the meter, where the record has none.")
@click.option("--at", help="When a record without a clock was taken: 2024-04-01T12:00:00Z.")
@click.option("--timezone", help="Zone of times without an offset, like Europe/Vienna.")
@click.option("--key", help="OCMF: public key. P1: decryption key. In hex, base64, or a file.")
@click.option("--export", is_flag=True, help="The file holds feed-in, where it does not say.")
@json_option
@handles_errors
def parse(
    adapter: str,
    files: tuple[str, ...],
    meter: str | None,
    at: str | None,
    timezone: str | None,
    key: str | None,
    export: bool,
    as_json: bool,
) -> None:
    """Normalised readings of raw records.

    ADAPTER is one of `gridcommons meter adapters`; "-" reads standard input. Several files are read
    as one. Energy is in whole Wh, null where unknown; a register is cumulative and has no start.
    What was left out or looks odd is said on stderr.
    """
    from meters.adapters.engine import Options, as_dict, load_adapter
    from meters.adapters.engine import parse as normalise

    options = Options(
        meter=meter,
        at=_instant(at) if at is not None else None,
        timezone=_zone(timezone) if timezone is not None else None,
        key=_key(key) if key is not None else None,
        export=export,
    )
    chosen = load_adapter(adapter)
    named = [("standard input" if name == "-" else name, read_input(name)) for name in files]
    parsed = normalise(chosen, named, options)
    for note in parsed.notes[:SHOWN_NOTES]:
        click.echo(f"Note: {printable(note)}", err=True)
    if len(parsed.notes) > SHOWN_NOTES:
        click.echo(f"Note: and {len(parsed.notes) - SHOWN_NOTES} more like these", err=True)
    if as_json:
        rows = [as_dict(reading) for reading in parsed.readings]
        click.echo(json.dumps(rows))
    else:
        click.echo(_table(parsed.readings))


def _table(readings: list[MeterReading]) -> str:
    from meters.adapters.engine import stamp

    def wh(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    names = [printable(reading.meter or "-") for reading in readings[:SHOWN_ROWS]]
    width = max(5, *map(len, names))
    head = f"{'meter':<{width}}  {'start':<20}  {'end':<20}"
    lines = [f"{head}  {'import Wh':>15}  {'export Wh':>15}  quality"]
    for name, reading in zip(names, readings, strict=False):
        start = "register" if reading.register else stamp(reading.start)
        quality = reading.quality.name.lower()
        quality += f" ({printable(reading.source_quality)})" if reading.source_quality else ""
        lines.append(
            f"{name:<{width}}  {start:<20}  {stamp(reading.end) or '-':<20}  "
            f"{wh(reading.import_wh):>15}  {wh(reading.export_wh):>15}  {quality}"
        )
    if len(readings) > SHOWN_ROWS:
        lines.append(f"... {len(readings) - SHOWN_ROWS:,} more (--json lists all readings)")
    return "\n".join(lines)


def _instant(text: str) -> datetime:
    from meters.adapters.fields import instant

    return instant(text, "--at")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise BadUse(f"unknown time zone {name!r}; expected a name like Europe/Vienna") from None


def _key(text: str) -> bytes:
    from meters.adapters.ocmf import key_bytes

    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError):
        is_file = False
    return key_bytes(read_input(text) if is_file else text.encode())


for _command in (
    simulate,
    gateway,
    register,
    collect,
    _meter_vee.replay,
    *_meter_privacy.COMMANDS,
    *_meter_faults.COMMANDS,
):
    cli.add_command(_command)
