# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter collect`: the collector of a zone as a service. Attached to `gridcommons
meter`; what it does is in `meters.service`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dao.errors import BadUse
from scripts._common import (
    LOCAL_NODE,
    chain_options,
    handles_errors,
    json_option,
    open_as,
    unlocked,
)
from scripts._privacy_options import lake_option, secrets_option

if TYPE_CHECKING:
    from dao.deployment import Deployment
    from meters.service.committer import Terms

LOCAL_ACCOUNT = 2
"""The account of a local node that `gridcommons deploy` makes the collector."""
PORT = 8560
MQTT_VARIABLE = "GRIDCOMMONS_MQTT_PASSWORD"
TOKEN_VARIABLE = "GRIDCOMMONS_OPERATOR_TOKEN"

_DAY_HOURS = ("1", "2", "3", "4", "6", "8", "12", "24")


@click.command()
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@chain_options("is the zone's collector", LOCAL_ACCOUNT, LOCAL_NODE)
@click.option(
    "--listen",
    default=f"127.0.0.1:{PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where HTTP is answered. It is plain HTTP: put a TLS proxy before it.",
)
@click.option(
    "--behind-proxy", is_flag=True, help="Believe X-Forwarded-For from a proxy on this machine."
)
@click.option("--mqtt", "mqtt_url", metavar="URL", help="Broker: mqtt://[user@]host or mqtts://.")
@click.option(
    "--mqtt-password-file",
    type=click.Path(path_type=Path),
    help=f"File with the broker's password.  [default: {MQTT_VARIABLE}]",
)
@click.option(
    "--mqtt-ca", type=click.Path(path_type=Path), help="Certificates that vouch for the broker."
)
@click.option(
    "--broker",
    "embedded",
    metavar="HOST:PORT",
    help="Run a small broker inside; it lets anybody in.",
)
@click.option(
    "--batch-hours",
    type=click.Choice(_DAY_HOURS),
    help="Hours of a batch.  [default: those of a session]",
)
@click.option(
    "--delay",
    type=click.IntRange(0, 24 * 60),
    default=30,
    show_default=True,
    help="Minutes after its end when a batch is due.",
)
@click.option(
    "--patience",
    type=click.IntRange(0, 7 * 24),
    default=6,
    show_default=True,
    help="Hours to wait further while fewer than 15 homes have delivered.",
)
@click.option("--no-commit", is_flag=True, help="Take readings in; close and commit nothing.")
@lake_option
@click.option("--inbox", type=click.Path(path_type=Path), help="[default: in the state folder]")
@secrets_option
@click.option(
    "--source-rate",
    type=click.IntRange(1, 10_000_000),
    default=60_000,
    show_default=True,
    help="Readings a minute that one address or gateway may send.",
)
@click.option("--restore", is_flag=True, help="Build a lost inbox again from the lake first.")
@json_option
@handles_errors
def collect(
    zone: int,
    network: str,
    account: str | None,
    deployment_file: Path | None,
    listen: str,
    behind_proxy: bool,
    mqtt_url: str | None,
    mqtt_password_file: Path | None,
    mqtt_ca: Path | None,
    embedded: str | None,
    batch_hours: str | None,
    delay: int,
    patience: int,
    no_commit: bool,
    lake_place: str | None,
    inbox: Path | None,
    secrets_file: Path | None,
    source_rate: int,
    restore: bool,
    as_json: bool,
) -> None:
    """Run the collector of a zone.

    It takes signed readings over HTTP and MQTT, acknowledges each frame once it is on disk, closes
    a batch when it is due, edits it, and commits it to the ledger. Ctrl-C or SIGTERM ends it; what
    was acknowledged is kept. It may be killed and started again at any time. While the node is away
    readings are taken all the same.

    The status is at /status, for Prometheus at /metrics. With a token in
    GRIDCOMMONS_OPERATOR_TOKEN, /status.json tells whoever shows it which meters are silent.
    """
    from dao import deployment as deploying
    from dao.paths import deployment_path, dispatches_path, inbox_path, lake_dir, secrets_path
    from dao.relay.limits import Rate
    from dao.relay.service import listen as listen_on
    from meters.service.intake import Limits
    from meters.service.logs import log_to_stderr
    from meters.service.mqtt import Broker
    from meters.service.run import CollectorService, Options, Places

    host, port = address_of(listen, "--listen")
    inside = None if embedded is None else address_of(embedded, "--broker")
    if inside is not None and mqtt_url is not None:
        raise BadUse("--broker runs a broker, --mqtt names another one: choose one of them")
    broker = None
    if mqtt_url is not None:
        broker = Broker.parse(mqtt_url, _password(mqtt_password_file), mqtt_ca)
    elif mqtt_password_file is not None or mqtt_ca is not None:
        raise BadUse("--mqtt-password-file and --mqtt-ca need --mqtt")
    elif inside is not None:
        broker = Broker(*inside)
    log_to_stderr()
    with (
        listen_on(host, port, "--listen") as listener,
        open_as(network, account, LOCAL_ACCOUNT) as (chain, payer),
    ):
        log_to_stderr()  # Ape has set up logs of its own
        deployed = deploying.read(chain, deployment_file or deployment_path())
        kept = inbox or inbox_path()
        burst = max(source_rate, 65_536)
        options = Options(
            zone=zone,
            places=Places(
                lake=lake_place or lake_dir(),
                inbox=kept,
                secrets=secrets_file or secrets_path(),
                dispatches=dispatches_path(kept),
            ),
            terms=_terms(deployed, batch_hours, delay, patience),
            commits=not no_commit,
            broker=broker,
            embedded=inside,
            token=os.environ.get(TOKEN_VARIABLE, "").strip(),
            limits=Limits(readings=Rate(burst=burst, per_minute=source_rate)),
            behind_proxy=behind_proxy,
            restore=restore,
        )
        service = CollectorService(deployed, unlocked(payer), options)
        service.open()
        shown = f"[{host}]" if ":" in host else host
        facts = {
            "url": f"http://{shown}:{listener.getsockname()[1]}",
            "mqtt": None if broker is None else repr(broker),
            "zone": zone,
            "collector": payer.address,
            "ledger": deployed["ReadingLedger"].address,
            "inbox": str(kept),
            "commits": not no_commit,
        }

        def ready() -> None:
            if as_json:
                click.echo(json.dumps(facts))
                return
            also = "" if broker is None else f" and {broker!r}"
            click.echo(f"The collector of zone {zone} takes readings at {facts['url']}{also}.")
            click.echo(f"Its status is at {facts['url']}/status. Ctrl-C ends it.")

        try:
            service.run(listener, ready)
        finally:
            service.close()


def address_of(text: str, option: str) -> tuple[str, int]:
    """Host and port of an option's HOST:PORT. BadUse for anything else."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not colon or not bare or not digits or int(port) > 65_535:
        raise BadUse(f"{option} {text}: expected HOST:PORT, like 127.0.0.1:{PORT}")
    if ":" in bare and not host.startswith("["):
        raise BadUse(f"{option} {text}: write an IPv6 address as [::1]:{PORT}")
    return bare, int(port)


def _terms(deployed: Deployment, batch_hours: str | None, delay: int, patience: int) -> Terms:
    """When batches are due; by default one is a session as it stands at the start."""
    from dao.parameters import KEYS
    from meters.service.committer import Terms

    if batch_hours is None:
        key = KEYS["sessions_per_day"]
        slots = 96 // int(deployed["GridParameters"].call("value", key))
    else:
        slots = 4 * int(batch_hours)
    return Terms(slots=slots, delay_s=60 * delay, patience_s=3_600 * patience)


def _password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(MQTT_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BadUse(f"cannot read {file}: {reason}") from None
