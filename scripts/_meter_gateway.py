# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter gateway`: the box at a home that reads, signs and sends. Attached to
`gridcommons meter`; what it does is in `meters.gateway`."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import address_from, handles_errors, json_option

if TYPE_CHECKING:
    from meters.gateway.outbox import Outbox
    from meters.gateway.settings import Settings

_DAY = 86_400

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("gateway.toml"),
    show_default=True,
    help="The gateway's settings.",
)


@click.group(name="gateway")
def gateway() -> None:
    """The box at a home: reads its devices, signs quarter-hours, sends them to the collector."""


@gateway.command()
@config_option
@click.option("--meter", type=click.IntRange(1, 2**32 - 1), required=True, help="Metering point.")
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option("--chain-id", type=click.IntRange(1), default=31_337, show_default=True)
@click.option("--registry", required=True, help="Address of MeterRegistry.")
@click.option("--ledger", required=True, help="Address of ReadingLedger.")
@click.option("--collector", required=True, help="URL of the collector.")
@click.option("--collector-address", required=True, help="Account that signs acknowledgements.")
@click.option("--source", "kind", required=True, help="Kind of the first source: p1, sml, ...")
@click.option("--address", required=True, help="Where it is: tcp://..., serial:///dev/..., ...")
@click.option("--topic", help="MQTT topic of the source.")
@handles_errors
def init(
    config: Path,
    meter: int,
    zone: int,
    chain_id: int,
    registry: str,
    ledger: str,
    collector: str,
    collector_address: str,
    kind: str,
    address: str,
    topic: str | None,
) -> None:
    """Write a settings file to begin with. It overwrites nothing."""
    from meters.gateway.settings import parse

    fields = {
        "meter": meter,
        "zone": zone,
        "chain_id": chain_id,
        "registry": address_from(registry, "--registry"),
        "ledger": address_from(ledger, "--ledger"),
        "url": collector,
        "collector": address_from(collector_address, "--collector-address"),
        "kind": kind,
        "address": address,
    }
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()}
    text = _TEMPLATE.format(**quoted)
    if topic is not None:
        text += f"topic = {json.dumps(topic, ensure_ascii=False)}\n"
    parse(text, config)
    try:
        with config.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise BadUse(f"{config} exists already; name another with --config") from None
    except OSError as error:
        raise CheckFailed(f"cannot write {config}: {error.strerror}") from None
    click.echo(f"Wrote {config}. Next: gridcommons meter gateway key new --config {config}")


_TEMPLATE = """\
# Settings of a gateway; docs/gateway.md tells what there is.
[gateway]
meter = {meter}
zone = {zone}
# password_file = "password.txt"      # else GRIDCOMMONS_GATEWAY_PASSWORD

[chain]
id = {chain_id}
registry = {registry}
ledger = {ledger}

[collector]
url = {url}
address = {collector}

[[source]]
kind = {kind}
address = {address}
"""


@gateway.command()
@config_option
@json_option
@handles_errors
def run(config: Path, as_json: bool) -> None:
    """Run until Ctrl-C or SIGTERM. What was measured and signed is on disk at any moment."""
    import asyncio
    import logging
    import signal

    from meters.gateway.clock import SystemClock
    from meters.gateway.keystore import read_password
    from meters.gateway.run import Gateway
    from meters.gateway.settings import read

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # Libraries log a lost line, which is this program's daily bread, with a traceback.
    for name in ("mqtt", "pymodbus", "ocpp", "websockets", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = read(config)
    made = Gateway(settings, SystemClock(), read_password(settings.password_file))

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await made.run(stop)

    key = made.keys.of(int(time.time()) // 900)
    sources = [str(source.address) for source in settings.sources]
    facts = {
        "meter": settings.meter,
        "id": settings.id,
        "device": None if key is None else key.address,
        "sources": sources,
        "outbox": str(settings.outbox),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"The gateway of meter {settings.meter} reads {', '.join(sources)} and signs "
            f"as {facts['device']}. Ctrl-C ends it."
        )
    asyncio.run(live())


@gateway.command()
@config_option
@json_option
@handles_errors
def status(config: Path, as_json: bool) -> None:
    """How the gateway is. Exit code 1 if something is wrong."""
    from meters.gateway.settings import read

    settings = read(config)
    try:
        found = json.loads(settings.status.read_bytes())
        found["seconds_old"] = max(round(time.time()) - int(found["at"]), 0)
    except FileNotFoundError:
        raise CheckFailed(f"there is no {settings.status}: the gateway never ran") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckFailed(f"{settings.status} cannot be read: {error}") from None
    if found["seconds_old"] > 300:
        found["ok"] = False
        found["problems"]["gateway"] = f"nothing heard for {found['seconds_old']} s: is it running?"
    click.echo(json.dumps(found) if as_json else _told(found))
    if not found["ok"]:
        raise SystemExit(1)


def _told(found: dict[str, Any]) -> str:
    outbox = found["outbox"]
    unsigned = outbox["unsigned"] + outbox["held"]
    used, limit = (outbox[name] / 2**20 for name in ("used_bytes", "limit_bytes"))
    about = f"{found['meter']} (zone {found['zone']}, {found['id']})"
    lines = [f"meter     {about}, {found['seconds_old']} s ago"]
    lines.append(
        f"outbox    {outbox['waiting']} waiting, {outbox['acknowledged']} acknowledged, "
        f"{outbox['refused']} refused, {unsigned} unsigned; {used:.1f} of {limit:.0f} MiB"
    )
    for name, one in found["sources"].items():
        since = one["seconds_since"]
        faults = ", ".join(f"{count} {kind}" for kind, count in one["faults"].items())
        lines.append(
            f"source    {name}: {one['address']}, "
            f"{'never read' if since is None else f'read {since} s ago'}"
            f"{f'; {faults}' if faults else ''}"
        )
    for one in found["keys"]:
        waits = "" if one["in_use"] else ", waits for the registry"
        lines.append(f"key       {one['address']} from {one['valid_from']}{waits}")
    for name, problem in found["problems"].items():
        lines.append(f"problem   {name}: {problem}")
    return "\n".join(lines)


@gateway.group()
def key() -> None:
    """The device key of the gateway."""


@key.command(name="new")
@config_option
@json_option
@handles_errors
def key_new(config: Path, as_json: bool) -> None:
    """Make the device key, encrypted with the password. Its address is to be registered."""
    from meters.gateway.keystore import new_key, read_password
    from meters.gateway.settings import read

    settings = read(config)
    made = new_key(settings.first_key, read_password(settings.password_file))
    facts = {"meter": settings.meter, "device": made.address, "file": str(settings.first_key)}
    click.echo(
        json.dumps(facts)
        if as_json
        else f"Device {made.address} for meter {settings.meter}, in {settings.first_key}."
    )


@key.command(name="show")
@config_option
@json_option
@handles_errors
def key_show(config: Path, as_json: bool) -> None:
    """The addresses of the gateway's keys, and when they begin to hold. Needs no password."""
    from meters.gateway.keystore import address_in
    from meters.gateway.settings import read

    settings = read(config)
    rows = [{"device": address_in(settings.first_key), "valid_from": 0, "in_use": True}]
    if settings.outbox.exists():
        with _outbox(settings, readonly=True) as outbox:
            rows = [
                {"device": one.address, "valid_from": one.valid_from, "in_use": one.confirmed}
                for one in outbox.key_periods()
            ] or rows
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        waits = "" if row["in_use"] else ", waits for the registry"
        click.echo(f"{row['device']} from {row['valid_from']}{waits}")


@key.command(name="rotate")
@config_option
@click.option("--valid-from", type=int, help="Unix time from which it holds; default in a day.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File of the request.")
@click.option("--replace", is_flag=True, help="Forget a new key that the registry never got.")
@handles_errors
def key_rotate(config: Path, valid_from: int | None, output: Path | None, replace: bool) -> None:
    """Make a new device key and the request to register it, signed by the old and the new one.

    Any account may send the request to MeterRegistry. The gateway, running or not, signs with the
    new key once the registry has it and its time has come.
    """
    from dao.metering import MAX_AHEAD
    from meters.gateway.keystore import load_key, new_key, read_password, request_rotation
    from meters.gateway.outbox import KeyPeriod
    from meters.gateway.settings import read

    settings = read(config)
    password = read_password(settings.password_file)
    now = int(time.time())
    begin = (now + _DAY) // 900 * 900 if valid_from is None else valid_from
    if not now < begin <= now + MAX_AHEAD:
        raise BadUse("--valid-from lies in the past, or more than 30 days ahead")
    with _outbox(settings) as outbox:
        periods = [one for one in outbox.key_periods() if one.confirmed]
        waiting = [one for one in outbox.key_periods() if not one.confirmed]
        if waiting and not replace:
            raise BadUse(
                f"the key {waiting[0].address} waits for the registry already, from "
                f"{waiting[0].valid_from} on; --replace forgets it"
            )
        old_file = settings.folder / periods[-1].file if periods else settings.first_key
        old = load_key(old_file, password)
        if not periods:
            outbox.put_key(KeyPeriod(old.address, old_file.name, 0, confirmed=True))
        # The file of a key that is replaced stays: it may have reached the registry all the same.
        names = (f"key-{begin}{f'-{n}' if n else ''}.json" for n in itertools.count())
        file = next(one for one in map(settings.folder.joinpath, names) if not one.exists())
        made = new_key(file, password)
        chain = settings.chain
        request = request_rotation(chain.chain_id, chain.registry, settings.meter, old, made, begin)
        for one in waiting:
            outbox.drop_key(one.address)
        outbox.put_key(KeyPeriod(made.address, file.name, begin, confirmed=False))
    text = json.dumps(request.as_dict(), indent=1)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckFailed(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"Device {made.address} from {begin} on. Send {output} to the registry before that.")


@key.command(name="confirm")
@config_option
@click.argument("address")
@handles_errors
def key_confirm(config: Path, address: str) -> None:
    """Say that the registry has a new key, for a gateway that has no node to ask."""
    from dataclasses import replace

    from meters.gateway.settings import read

    settings = read(config)
    wanted = address_from(address)
    with _outbox(settings) as outbox:
        found = [one for one in outbox.key_periods() if one.address == wanted]
        if not found:
            raise BadUse(f"the gateway has no key {wanted}")
        outbox.put_key(replace(found[0], confirmed=True))
    click.echo(f"{wanted} signs for slots that end at {found[0].valid_from} or later.")


def _outbox(settings: Settings, *, readonly: bool = False) -> Outbox:
    """The outbox beside a gateway that may run: only keys are read and written."""
    from meters.gateway.outbox import Outbox
    from meters.signing import reading_separator

    separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
    return Outbox(settings.outbox, settings.meter, separator, readonly=readonly, claim=False)
