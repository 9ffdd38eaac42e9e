# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter grant|read|access`: who may see a home's readings, and who did.

What they do is in `meters/grants.py` and `meters/granted.py`. A node is asked by `--rpc`, without
Ape.
"""

from __future__ import annotations

import json
import secrets as randomness
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse
from scripts._common import address_from, deployment_option, handles_errors, json_option
from scripts._privacy_options import (
    addresses_from,
    bytes_from,
    key_options,
    lake_from,
    lake_option,
    meter_option,
    moment_from,
    needed,
    row_facts,
    rows_table,
    rpc_option,
    same_chain,
    secrets_option,
    signature_from,
    span_from,
    span_options,
    stamp,
    state_paths,
    write_output,
)

if TYPE_CHECKING:
    from dao.node import Addresses, Node
    from meters.granted import Committed
    from meters.grants import Access, Grant, Grants, Held
    from meters.readings import Reading


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

    addresses = addresses_from(deployment_file)
    if listing:
        with _grants(addresses, None) as store:
            held = store.of_meter(meter)
        facts = [_grant_facts(one) for one in held]
        click.echo(json.dumps(facts) if as_json else _grant_table(held))
        return
    separator = granting.grant_separator(addresses.chain_id, addresses["MeterRegistry"])
    keys = (keystore, key_file, signature)
    if revoke is not None:
        number = bytes_from("--revoke", revoke, 32)
        digest = granting.revocation_digest(separator, meter, number)
        if unsigned:
            click.echo(json.dumps({"digest": "0x" + digest.hex()}))
            return
        made = signature_from(digest, *keys)
        node = Node(needed("--rpc", rpc))
        same_chain(node, addresses)
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
    made = signature_from(digest, *keys)
    node = Node(needed("--rpc", rpc))
    same_chain(node, addresses)
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

    first, stop = span_from(None, needed("--from", begin), needed("--to", end))
    until = moment_from("--expires", needed("--expires", expires), ends=True)
    if nonce is None:
        if signature is not None:
            raise BadUse("--signature needs the --nonce that was signed")
        nonce = int.from_bytes(randomness.token_bytes(8), "big")
    who = address_bytes(address_from(needed("--reader", reader), "--reader"))
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
    from meters import granted
    from meters.disclosure import document
    from meters.grants import access_digest, grant_separator
    from meters.secrets import SecretStore

    if signature is not None:
        raise BadUse("a challenge is made and signed in one go: give --keystore or --key-file")
    addresses = addresses_from(deployment_file)
    wanted = None if (slot, begin, end) == (None, None, None) else span_from(slot, begin, end)
    separator = grant_separator(addresses.chain_id, addresses["MeterRegistry"])
    node = Node(rpc)
    same_chain(node, addresses)
    now, identity = node.now(), bytes_from("--grant", number, 32)
    with _grants(addresses, node) as store:
        held = store.get(identity)
        challenge = store.challenge(identity, now)
        digest = access_digest(separator, identity, challenge)
        request = granted.Request(
            identity, challenge, signature_from(digest, keystore, key_file, None), *(wanted or ())
        )
        committed = _committed(node, addresses, held, lake_from(lake_place))
        if proof:
            with SecretStore(secrets_file or state_paths().secrets_path(), make=False) as secrets:
                made = granted.disclose_under(store, committed, request, now, secrets, addresses)
            text = json.dumps(document(made), indent=1)
        else:
            rows = granted.read_under(store, committed, request, now)
            text = _answer(held, rows, as_json or output is not None)
    write_output(output, text + "\n")


def _answer(held: Held, rows: Sequence[Reading], as_json: bool) -> str:
    if as_json:
        return json.dumps([row_facts(row) for row in rows])
    return rows_table(f"meter {held.grant.meter}", rows)


@click.command()
@meter_option
@deployment_option
@json_option
@handles_errors
def access(meter: int, deployment_file: Path | None, as_json: bool) -> None:
    """Who read a home's readings under a grant, who tried to, and when."""
    with _grants(addresses_from(deployment_file), None) as store:
        found = store.accesses(meter)
    if as_json:
        click.echo(json.dumps([_access_facts(one) for one in found]))
    elif not found:
        click.echo(f"Nobody has asked for readings of meter {meter}.")
    else:
        click.echo(_access_table(found))


@contextmanager
def _grants(addresses: Addresses, node: Node | None) -> Iterator[Grants]:
    """The store of grants; without a node it takes none."""
    from meters.granted import asks_registry
    from meters.grants import Grants, grant_separator

    registry = addresses["MeterRegistry"]

    def nobody(*_: object) -> bool:
        raise BadUse("--rpc is needed: who owns a meter is asked of the registry")

    path: Path = state_paths().grants_path()
    signed = asks_registry(node, registry) if node is not None else nobody
    with Grants(path, grant_separator(addresses.chain_id, registry), signed) as store:
        yield store


def _committed(node: Node, addresses: Addresses, held: Held, lake: Path | str) -> Committed:
    from meters.granted import Committed

    meter = held.grant.meter
    _, zone = node.view(addresses["MeterRegistry"], "metering_point(uint256)", meter)
    (until,) = node.view(addresses["ReadingLedger"], "committed_until(uint256)", zone)
    return Committed(lake, zone, until)


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
            f"  {facts['reader']} may read {stamp(slot_timestamp(one.grant.from_slot))} to "
            f"{stamp(slot_timestamp(one.grant.to_slot))} until {stamp(one.grant.expires)}"
        )
        if one.revoked_at is not None:
            lines.append(f"  revoked {stamp(one.revoked_at)}")
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
        often = f" ({one.times} times, last {stamp(one.last_at)})" if one.times > 1 else ""
        lines.append(f"{stamp(one.at)}  {checksum_address(one.reader)}  {what}{often}")
        lines.append(f"  under grant 0x{one.grant.hex()}")
    return "\n".join(lines)
