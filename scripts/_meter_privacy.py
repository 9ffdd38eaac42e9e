# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter disclose|verify|grant|read|access|erase`: who may see what of one home.

The commands read options and print; what they do is in `meters/disclosure.py`, `grants.py` and
`erasure.py`. A node is asked by `--rpc`, without Ape.
"""

from __future__ import annotations

import json
import os
import re
import secrets as randomness
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import address_from, handles_errors, json_option, read_input

if TYPE_CHECKING:
    from dao.node import Addresses, Node
    from meters.disclosure import Check, Disclosure
    from meters.grants import Access, Committed, Grant, Grants, Held
    from meters.readings import Reading

SHOWN_ROWS = 40
"""Rows of a table for people; --json holds all."""
PASSWORD_VARIABLE = "GRIDCOMMONS_PASSWORD"

_MARKS = {"passed": "ok", "failed": "FAILED", "not checked": "not checked"}

meter_option = click.option(
    "--meter",
    required=True,
    type=click.IntRange(1, 2**32 - 1),
    help="Number of the metering point.",
)
deployment_option = click.option(
    "--deployment",
    "deployment_file",
    type=click.Path(path_type=Path),
    help="Where the addresses are written down.  [default: in the state folder]",
)
lake_option = click.option(
    "--lake", "lake_place", help="Folder or address of the lake.  [default: in the state folder]"
)
secrets_option = click.option(
    "--secrets",
    "secrets_file",
    type=click.Path(path_type=Path),
    help="The store of secrets.  [default: in the state folder]",
)
rpc_option = click.option("--rpc", required=True, metavar="URL", help="A node of the chain.")


def span_options(function: Callable[..., None]) -> Callable[..., None]:
    """One slot, or a stretch of them."""
    for option in (
        click.option("--slot", type=click.IntRange(0, 2**40), help="One slot, by its number."),
        click.option("--from", "begin", help="From this UTC day or time on: 2016-06-01[T12:00]."),
        click.option("--to", "end", help="Before this UTC time, or to the end of this day."),
    ):
        function = option(function)
    return function


def key_options(function: Callable[..., None]) -> Callable[..., None]:
    """Whose key signs."""
    for option in (
        click.option("--signature", help="A signature made elsewhere, 0x and 130 hex digits."),
        click.option(
            "--key-file", help='File with a private key in hex; "-" reads standard input.'
        ),
        click.option(
            "--keystore",
            help="Encrypted key file (JSON, version 3). Its password is asked for, or read from "
            f"the environment ({PASSWORD_VARIABLE}).",
        ),
    ):
        function = option(function)
    return function


# Disclosing


@click.command()
@meter_option
@span_options
@click.option("--output", "-o", help="The file to write.  [default: standard output]")
@click.option("--records", is_flag=True, help="Also the edit records behind edited values.")
@lake_option
@secrets_option
@deployment_option
@handles_errors
def disclose(
    meter: int,
    slot: int | None,
    begin: str | None,
    end: str | None,
    output: str | None,
    records: bool,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
) -> None:
    """Open some slots of a home to whoever gets the file, and no others.

    The file holds values, salts, the paths to the roots on the ledger, and the device's signatures.
    `gridcommons meter verify` checks it. What was given out cannot be taken back.

    An edit record quotes the slots that a value was made from, so --records opens more than the
    slots named.
    """
    from meters.disclosure import disclose as make
    from meters.disclosure import document, zone_of
    from meters.secrets import SecretStore

    addresses = _addresses(deployment_file)
    first, stop = _span(slot, begin, end)
    lake = _lake(lake_place)
    with SecretStore(secrets_file or _paths().secrets_path(), make=False) as secrets:
        zone = zone_of(lake, meter)
        made = make(lake, secrets, addresses, zone, meter, range(first, stop), with_records=records)
    _write(output, json.dumps(document(made), indent=1) + "\n")
    if output is not None:
        click.echo(f"Opened {len(made.slots)} slots of meter {meter} in {output}.")
    withheld = sum(one.edits for one in made.slots) if not records else 0
    if withheld:
        click.echo(
            f"{withheld} edit records were left out: they quote other slots too (--records).",
            err=True,
        )


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--rpc", metavar="URL", help="Hold it against the chain too, through this node.")
@deployment_option
@json_option
@handles_errors
def verify(file: str, rpc: str | None, deployment_file: Path | None, as_json: bool) -> None:
    """Check a disclosure: leaves, paths, roots on the ledger, signatures of the meter's device.

    FILE alone and a node are enough; "-" reads standard input. Without --rpc the file is checked
    in itself, and what was not checked is said. A file can name contracts of its own: they are
    compared with --deployment, or with the deployment in the state folder.

    Ends with 0 where all that was checked holds, 1 where something does not, 2 where FILE is no
    disclosure.
    """
    from dao.node import Node
    from meters.disclosure import read
    from meters.disclosure import verify as check

    disclosure = read(read_input(file), "standard input" if file == "-" else file)
    node = Node(rpc) if rpc is not None else None
    named = deployment_file is not None
    known = None
    if named or _paths().deployment_path().exists():
        known = _addresses(deployment_file)
    checks = check(disclosure, node, known, named=named)
    if as_json:
        click.echo(json.dumps(_facts(disclosure, checks)))
    else:
        click.echo(_rows(f"meter {disclosure.meter}", [one.reading for one in disclosure.slots]))
        click.echo()
        for one in checks:
            click.echo(f"{one.name:<12}{_MARKS[one.state]:<13}{one.detail}")
    faults = [one for one in checks if one.state == "failed"]
    if faults:
        raise CheckFailed(f"the disclosure does not hold: {faults[0].name}: {faults[0].detail}")


def _facts(disclosure: Disclosure, checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "meter": disclosure.meter,
        "zone": disclosure.zone,
        "holds": all(check.state != "failed" for check in checks),
        "complete": all(check.state == "passed" for check in checks),
        "checks": [vars(check) for check in checks],
        "slots": [_row(one.reading) for one in disclosure.slots],
    }


# Granting


@click.command()
@meter_option
@click.option("--reader", help="Address of who may read.")
@click.option("--from", "begin", help="From this UTC day or time on: 2016-06-01[T12:00].")
@click.option("--to", "end", help="Before this UTC time, or to the end of this day.")
@click.option("--expires", help="Until this UTC time, or to the end of this day.")
@click.option("--nonce", type=click.IntRange(0, 2**64 - 1), help="Number of the grant. [random]")
@click.option("--revoke", metavar="ID", help="End this grant instead.")
@click.option("--list", "listing", is_flag=True, help="Show the meter's grants instead.")
@click.option("--unsigned", is_flag=True, help="Print what a wallet is to sign, and take nothing.")
@key_options
@click.option("--rpc", metavar="URL", help="A node of the chain; not needed to list.")
@deployment_option
@json_option
@handles_errors
def grant(
    meter: int,
    reader: str | None,
    begin: str | None,
    end: str | None,
    expires: str | None,
    nonce: int | None,
    revoke: str | None,
    listing: bool,
    unsigned: bool,
    keystore: str | None,
    key_file: str | None,
    signature: str | None,
    rpc: str | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Let a named reader see a home's readings of a time, until a day.

    The metering point's owner signs it: with --keystore or --key-file, or elsewhere: --unsigned
    prints the message, --nonce and --signature bring it back. What is committed later, up to the
    grant's end, counts too. --revoke ends a grant at once.
    """
    from dao.node import Node
    from meters import grants as granting

    addresses = _addresses(deployment_file)
    if listing:
        with _grants(addresses, None) as store:
            held = store.of_meter(meter)
        facts = [_grant_facts(one) for one in held]
        click.echo(json.dumps(facts) if as_json else _grant_table(held))
        return
    separator = granting.grant_separator(addresses.chain_id, addresses["MeterRegistry"])
    keys = (keystore, key_file, signature)
    if revoke is not None:
        number = _hex("--revoke", revoke, 32)
        digest = granting.revocation_digest(separator, meter, number)
        if unsigned:
            click.echo(json.dumps({"digest": "0x" + digest.hex()}))
            return
        made = _signed(digest, *keys)
        node = Node(_needed("--rpc", rpc))
        _same_chain(node, addresses)
        with _grants(addresses, node) as store:
            store.revoke(meter, number, made, node.now())
        facts_of = {"revoked": "0x" + number.hex()}
        click.echo(json.dumps(facts_of) if as_json else f"Grant 0x{number.hex()} is revoked.")
        return
    given = _grant_from(meter, reader, begin, end, expires, nonce, signature)
    digest = given.digest(separator)
    if unsigned:
        message = granting.typed_data(given, addresses.chain_id, addresses["MeterRegistry"])
        click.echo(json.dumps({"digest": "0x" + digest.hex(), "typed_data": message}, indent=1))
        return
    made = _signed(digest, *keys)
    node = Node(_needed("--rpc", rpc))
    _same_chain(node, addresses)
    with _grants(addresses, node) as store:
        taken = store.add(given, made, node.now())
    shown = f"0x{taken.id.hex()}"
    click.echo(json.dumps(_grant_facts(taken)) if as_json else f"Grant {shown} holds.")


def _grant_from(
    meter: int,
    reader: str | None,
    begin: str | None,
    end: str | None,
    expires: str | None,
    nonce: int | None,
    signature: str | None,
) -> Grant:
    from dao.eip712 import address_bytes
    from meters.grants import Grant

    first, stop = _span(None, _needed("--from", begin), _needed("--to", end))
    until = _moment("--expires", _needed("--expires", expires), ends=True)
    if nonce is None:
        if signature is not None:
            raise BadUse("--signature needs the --nonce that was signed")
        nonce = int.from_bytes(randomness.token_bytes(8), "big")
    who = address_bytes(address_from(_needed("--reader", reader), "--reader"))
    return Grant(meter, who, first, stop, until, nonce)


@click.command()
@click.option("--grant", "number", required=True, metavar="ID", help="The grant to read under.")
@span_options
@click.option("--proof", is_flag=True, help="As a disclosure that can be verified.")
@click.option("--output", "-o", help="The file to write.  [default: standard output]")
@key_options
@rpc_option
@lake_option
@secrets_option
@deployment_option
@json_option
@handles_errors
def read(
    number: str,
    slot: int | None,
    begin: str | None,
    end: str | None,
    proof: bool,
    output: str | None,
    keystore: str | None,
    key_file: str | None,
    signature: str | None,
    rpc: str,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Read a home's readings under a grant, as the reader that it names.

    The reader's key signs a challenge that counts once. Every access is on record for the owner,
    refused ones too.
    """
    from dao.node import Node
    from meters import grants as granting
    from meters.disclosure import document
    from meters.secrets import SecretStore

    if signature is not None:
        raise BadUse("a challenge is made and signed in one go: give --keystore or --key-file")
    addresses = _addresses(deployment_file)
    wanted = None if (slot, begin, end) == (None, None, None) else _span(slot, begin, end)
    separator = granting.grant_separator(addresses.chain_id, addresses["MeterRegistry"])
    node = Node(rpc)
    _same_chain(node, addresses)
    now, identity = node.now(), _hex("--grant", number, 32)
    with _grants(addresses, node) as store:
        held = store.get(identity)
        challenge = store.challenge(identity, now)
        digest = granting.access_digest(separator, identity, challenge)
        request = granting.Request(
            identity, challenge, _signed(digest, keystore, key_file, None), *(wanted or ())
        )
        committed = _committed(node, addresses, held, _lake(lake_place))
        if proof:
            with SecretStore(secrets_file or _paths().secrets_path(), make=False) as secrets:
                made = granting.disclose_under(store, committed, request, now, secrets, addresses)
            text = json.dumps(document(made), indent=1)
        else:
            rows = granting.read_under(store, committed, request, now)
            text = _answer(held, rows, as_json or output is not None)
    _write(output, text + "\n")


def _answer(held: Held, rows: Sequence[Reading], as_json: bool) -> str:
    if as_json:
        return json.dumps([_row(row) for row in rows])
    return _rows(f"meter {held.grant.meter}", rows)


@click.command()
@meter_option
@deployment_option
@json_option
@handles_errors
def access(meter: int, deployment_file: Path | None, as_json: bool) -> None:
    """Who read a home's readings under a grant, who tried to, and when."""
    with _grants(_addresses(deployment_file), None) as store:
        found = store.accesses(meter)
    if as_json:
        click.echo(json.dumps([_access_facts(one) for one in found]))
    elif not found:
        click.echo(f"Nobody has asked for readings of meter {meter}.")
    else:
        click.echo(_access_table(found))


# Erasing


@click.command()
@meter_option
@click.option("--month", required=True, help="A whole past month, UTC: 2016-05.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@rpc_option
@lake_option
@secrets_option
@deployment_option
@json_option
@handles_errors
def erase(
    meter: int,
    month: str,
    yes: bool,
    rpc: str,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Erase a home's month: its secret, and every value of it in every store here.

    What remains still verifies. It cannot be undone. Run it again where it broke off. What is on
    the chain, what was given out, and backups stay: docs/privacy.md says what they show.
    """
    from dao.node import Node
    from meters.erasure import Stores, check_final, erase_month, unfinished
    from meters.secrets import SecretStore, month_name
    from meters.signing import reading_separator

    paths = _paths()
    number = _month(month)
    addresses = _addresses(deployment_file)
    node, lake = Node(rpc), _lake(lake_place)
    now = node.now()
    zone = check_final(node, addresses, lake, meter, number, now)
    if not yes:
        click.confirm(
            f"Erase all readings of meter {meter} in {month_name(number)} for good? The zone's "
            "totals stay on the chain.",
            abort=True,
            err=True,
        )
    with SecretStore(secrets_file or paths.secrets_path(), make=False) as secrets:
        stores = Stores(
            lake=lake,
            secrets=secrets,
            inbox=paths.inbox_path(),
            relay=paths.home() / "relay.sqlite",
            journal=paths.erasures_dir(),
            dispatches=paths.dispatches_path(),
            separator=reading_separator(addresses.chain_id, addresses["MeterRegistry"]),
        )
        done = erase_month(stores, zone, meter, number, now)
    if as_json:
        click.echo(json.dumps({"meter": meter, "month": month_name(number), **vars(done)}))
    else:
        click.echo(
            f"Erased {month_name(number)} of meter {meter}: its secret, rows in {done.files} files "
            f"of the lake, {done.inbox} in the inbox, {done.relay} of the relay."
        )
    for other in unfinished(paths.erasures_dir()):
        which = f"meter {other.meter}, {month_name(other.month)}"
        click.echo(f"An erasure of {which} broke off: run it again.", err=True)


COMMANDS: tuple[click.Command, ...] = (disclose, verify, grant, read, access, erase)


# What options say


def _paths() -> Any:
    import dao.paths

    return dao.paths


def _addresses(file: Path | None) -> Addresses:
    from dao.node import read_addresses

    return read_addresses(file or _paths().deployment_path())


def _lake(place: str | None) -> Path | str:
    if place is None:
        folder: Path = _paths().lake_dir()
        return folder
    return place if "://" in place else Path(place)


@contextmanager
def _grants(addresses: Addresses, node: Node | None) -> Iterator[Grants]:
    """The store of grants; without a node it takes none."""
    from meters.grants import Grants, asks_registry, grant_separator

    registry = addresses["MeterRegistry"]

    def nobody(*_: object) -> bool:
        raise BadUse("--rpc is needed: who owns a meter is asked of the registry")

    path: Path = _paths().grants_path()
    signed = asks_registry(node, registry) if node is not None else nobody
    with Grants(path, grant_separator(addresses.chain_id, registry), signed) as store:
        yield store


def _committed(node: Node, addresses: Addresses, held: Held, lake: Path | str) -> Committed:
    from meters.grants import Committed

    meter = held.grant.meter
    _, zone = node.view(addresses["MeterRegistry"], "metering_point(uint256)", meter)
    (until,) = node.view(addresses["ReadingLedger"], "committed_until(uint256)", zone)
    return Committed(lake, zone, until)


def _same_chain(node: Node, addresses: Addresses) -> None:
    if (chain_id := node.chain_id) != addresses.chain_id:
        raise CheckFailed(
            f"the deployment is of chain {addresses.chain_id}, this node is of {chain_id}"
        )


def _needed(option: str, value: str | None) -> str:
    if value is None:
        raise BadUse(f"{option} is needed")
    return value


def _span(slot: int | None, begin: str | None, end: str | None) -> tuple[int, int]:
    """The slots that the options name: first, and the one after the last."""
    if slot is not None:
        if begin is not None or end is not None:
            raise BadUse("give --slot, or --from and --to")
        return slot, slot + 1
    if begin is None or end is None:
        raise BadUse("which slots? give --slot, or --from and --to")
    first = _slot("--from", _moment("--from", begin))
    stop = _slot("--to", _moment("--to", end, ends=True))
    if stop <= first:
        raise BadUse(f"--to {end} is not after --from {begin}")
    return first, stop


def _slot(option: str, seconds: int) -> int:
    from dao.slots import SLOT_SECONDS

    if seconds % SLOT_SECONDS:
        raise BadUse(f"{option}: expected a quarter-hour")
    return seconds // SLOT_SECONDS


def _moment(option: str, text: str, *, ends: bool = False) -> int:
    """Unix seconds of a UTC day or time; of a day its begin, or where it ends."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text)
            start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            seconds = start + 86_400 * ends
        else:
            when = datetime.fromisoformat(text)
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
            seconds = int(when.timestamp())
        if seconds < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadUse(
            f"{option} {text}: expected a UTC day or time since 1970, as 2016-06-01 or "
            "2016-06-01T12:00"
        ) from None
    return seconds


def _month(text: str) -> int:
    found = re.fullmatch(r"(\d{4})-(\d{2})", text)
    if found is None or not 1 <= int(found[2]) <= 12 or int(found[1]) < 1970:
        raise BadUse(f"--month {text}: expected a month since 1970, as 2016-05")
    return (int(found[1]) - 1970) * 12 + int(found[2]) - 1


def _hex(option: str, text: str, width: int) -> bytes:
    if not re.fullmatch(f"0x[0-9a-fA-F]{{{2 * width}}}", text):
        raise BadUse(f"{option} {text[:20]}: expected 0x and {2 * width} hex digits")
    return bytes.fromhex(text[2:])


def _signed(
    digest: bytes, keystore: str | None, key_file: str | None, signature: str | None
) -> bytes:
    """A signature of the digest by what the options name."""
    given = [one for one in (keystore, key_file, signature) if one is not None]
    if len(given) != 1:
        raise BadUse("who signs? give one of --keystore, --key-file and --signature")
    if signature is not None:
        return _hex("--signature", signature, 65)
    from dao.eip712 import sign_digest

    return sign_digest(_key(keystore, key_file), digest)


def _key(keystore: str | None, key_file: str | None) -> bytes:
    name = keystore if keystore is not None else str(key_file)
    content = read_input(name)
    try:
        if keystore is None:
            text = content.decode().strip().removeprefix("0x")
            if not re.fullmatch(r"[0-9a-fA-F]{64}", text) or not int(text, 16):
                raise ValueError
            return bytes.fromhex(text)
        from eth_account import Account

        password = os.environ.get(PASSWORD_VARIABLE)
        if password is None:
            password = click.prompt("Password of the keystore", hide_input=True, err=True)
        return bytes(Account.decrypt(content.decode(), password))
    except (ValueError, TypeError, KeyError, NotImplementedError):
        what = (
            "a private key in hex" if keystore is None else "a keystore, or the password is wrong"
        )
        raise BadUse(f"{name} is not {what}") from None


# What is shown


def _write(output: str | None, text: str) -> None:
    """To a file that only its owner may read: it holds a home's readings."""
    if output is None:
        click.echo(text, nl=False)
        return
    part = Path(f"{output}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(text)
        part.replace(output)
    except OSError as error:
        raise BadUse(f"cannot write {output}: {error.strerror}") from None


def _row(reading: Reading) -> dict[str, Any]:
    from dao.slots import slot_start

    return {
        "slot": reading.slot,
        "start": f"{slot_start(reading.slot):%Y-%m-%dT%H:%M:%SZ}",
        "import_wh": reading.import_wh,
        "export_wh": reading.export_wh,
        "quality": reading.quality.name.lower(),
    }


def _rows(title: str, readings: Sequence[Reading]) -> str:
    lines = [
        title,
        f"{'slot':>9}  {'start (UTC)':<20}  {'import Wh':>10}  {'export Wh':>10}  quality",
    ]
    for reading in readings[:SHOWN_ROWS]:
        row = {name: "-" if value is None else value for name, value in _row(reading).items()}
        lines.append(
            f"{row['slot']:>9}  {row['start']:<20}  {row['import_wh']:>10}  "
            f"{row['export_wh']:>10}  {row['quality']}"
        )
    if len(readings) > SHOWN_ROWS:
        lines.append(f"... {len(readings) - SHOWN_ROWS:,} more (--json lists all)")
    return "\n".join(lines)


def _grant_facts(held: Held) -> dict[str, Any]:
    from dao.eip712 import checksum_address

    given = held.grant
    return {
        "id": "0x" + held.id.hex(),
        "meter": given.meter,
        "reader": checksum_address(given.reader),
        "from_slot": given.from_slot,
        "to_slot": given.to_slot,
        "expires": given.expires,
        "nonce": given.nonce,
        "taken_at": held.taken_at,
        "revoked_at": held.revoked_at,
    }


def _grant_table(held: Sequence[Held]) -> str:
    from dao.slots import slot_timestamp

    if not held:
        return "No grants."
    lines = []
    for one in held:
        facts = _grant_facts(one)
        lines.append(facts["id"])
        lines.append(
            f"  {facts['reader']} may read {_stamp(slot_timestamp(one.grant.from_slot))} to "
            f"{_stamp(slot_timestamp(one.grant.to_slot))} until {_stamp(one.grant.expires)}"
        )
        if one.revoked_at is not None:
            lines.append(f"  revoked {_stamp(one.revoked_at)}")
    return "\n".join(lines)


def _access_facts(one: Access) -> dict[str, Any]:
    from dao.eip712 import checksum_address

    return {
        "grant": "0x" + one.grant.hex(),
        "reader": checksum_address(one.reader),
        "outcome": one.outcome.value,
        "first_slot": one.first_slot,
        "end_slot": one.end_slot,
        "slots": one.slots,
        "at": one.at,
        "last_at": one.last_at,
        "times": one.times,
    }


def _access_table(found: Sequence[Access]) -> str:
    from dao.eip712 import checksum_address

    lines = []
    for one in found:
        what = f"read {one.slots} slots" if one.slots else f"refused: {one.outcome.value}"
        often = f" ({one.times} times, last {_stamp(one.last_at)})" if one.times > 1 else ""
        lines.append(f"{_stamp(one.at)}  {checksum_address(one.reader)}  {what}{often}")
        lines.append(f"  under grant 0x{one.grant.hex()}")
    return "\n".join(lines)


def _stamp(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
