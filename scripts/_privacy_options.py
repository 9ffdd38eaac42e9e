# SPDX-License-Identifier: Apache-2.0
"""What the commands on a home's privacy are given, and how they print readings.

`_meter_privacy.py` and `_meter_grants.py` have the commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import read_input

if TYPE_CHECKING:
    from dao.node import Addresses, Node
    from meters.readings import Reading

SHOWN_ROWS = 40
"""Rows of a table for people; --json holds all."""
PASSWORD_VARIABLE = "GRIDCOMMONS_PASSWORD"

meter_option = click.option(
    "--meter",
    required=True,
    type=click.IntRange(1, 2**32 - 1),
    help="Number of the metering point.",
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


# What options say


def state_paths() -> Any:
    import dao.paths

    return dao.paths


def addresses_from(file: Path | None) -> Addresses:
    from dao.node import read_addresses

    return read_addresses(file or state_paths().deployment_path())


def lake_from(place: str | None) -> Path | str:
    if place is None:
        folder: Path = state_paths().lake_dir()
        return folder
    return place if "://" in place else Path(place)


def same_chain(node: Node, addresses: Addresses) -> None:
    if (chain_id := node.chain_id) != addresses.chain_id:
        raise CheckFailed(
            f"the deployment is of chain {addresses.chain_id}, this node is of {chain_id}"
        )


def needed(option: str, value: str | None) -> str:
    if value is None:
        raise BadUse(f"{option} is needed")
    return value


def span_from(slot: int | None, begin: str | None, end: str | None) -> tuple[int, int]:
    """The slots that the options name: first, and the one after the last."""
    if slot is not None:
        if begin is not None or end is not None:
            raise BadUse("give --slot, or --from and --to")
        return slot, slot + 1
    if begin is None or end is None:
        raise BadUse("which slots? give --slot, or --from and --to")
    first = slot_from("--from", moment_from("--from", begin))
    stop = slot_from("--to", moment_from("--to", end, ends=True))
    if stop <= first:
        raise BadUse(f"--to {end} is not after --from {begin}")
    return first, stop


def slot_from(option: str, seconds: int) -> int:
    from dao.slots import SLOT_SECONDS

    if seconds % SLOT_SECONDS:
        raise BadUse(f"{option}: expected a quarter-hour")
    return seconds // SLOT_SECONDS


def moment_from(option: str, text: str, *, ends: bool = False) -> int:
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


def month_from(text: str) -> int:
    found = re.fullmatch(r"(\d{4})-(\d{2})", text)
    if found is None or not 1 <= int(found[2]) <= 12 or int(found[1]) < 1970:
        raise BadUse(f"--month {text}: expected a month since 1970, as 2016-05")
    return (int(found[1]) - 1970) * 12 + int(found[2]) - 1


def bytes_from(option: str, text: str, width: int) -> bytes:
    if not re.fullmatch(f"0x[0-9a-fA-F]{{{2 * width}}}", text):
        raise BadUse(f"{option} {text[:20]}: expected 0x and {2 * width} hex digits")
    return bytes.fromhex(text[2:])


def signature_from(
    digest: bytes, keystore: str | None, key_file: str | None, signature: str | None
) -> bytes:
    """A signature of the digest by what the options name."""
    given = [one for one in (keystore, key_file, signature) if one is not None]
    if len(given) != 1:
        raise BadUse("who signs? give one of --keystore, --key-file and --signature")
    if signature is not None:
        return bytes_from("--signature", signature, 65)
    from dao.eip712 import sign_digest

    return sign_digest(key_from(keystore, key_file), digest)


def key_from(keystore: str | None, key_file: str | None) -> bytes:
    if keystore is not None:
        return _key_of_keystore(keystore)
    text = read_input(str(key_file)).decode("ascii", "replace").strip().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text) or not int(text, 16):
        raise BadUse(f"{key_file} is not a private key in hex")
    return bytes.fromhex(text)


def _key_of_keystore(name: str) -> bytes:
    from meters.gateway.keystore import open_keystore, parse_keystore

    document = parse_keystore(read_input(name), name)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = click.prompt("Password of the keystore", hide_input=True, err=True)
    try:
        return open_keystore(document, name, password)
    except CheckFailed:
        raise BadUse(f"{name} does not open: the password is wrong") from None


# What is shown


def write_output(output: str | None, text: str) -> None:
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
        part.unlink(missing_ok=True)
        raise BadUse(f"cannot write {output}: {error.strerror}") from None


def row_facts(reading: Reading) -> dict[str, Any]:
    from dao.slots import slot_start

    return {
        "slot": reading.slot,
        "start": f"{slot_start(reading.slot):%Y-%m-%dT%H:%M:%SZ}",
        "import_wh": reading.import_wh,
        "export_wh": reading.export_wh,
        "quality": reading.quality.name.lower(),
    }


def rows_table(title: str, readings: Sequence[Reading]) -> str:
    lines = [
        title,
        f"{'slot':>9}  {'start (UTC)':<20}  {'import Wh':>10}  {'export Wh':>10}  quality",
    ]
    for reading in readings[:SHOWN_ROWS]:
        row = {name: "-" if value is None else value for name, value in row_facts(reading).items()}
        lines.append(
            f"{row['slot']:>9}  {row['start']:<20}  {row['import_wh']:>10}  "
            f"{row['export_wh']:>10}  {row['quality']}"
        )
    if len(readings) > SHOWN_ROWS:
        lines.append(f"... {len(readings) - SHOWN_ROWS:,} more (--json lists all)")
    return "\n".join(lines)


def stamp(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
