# SPDX-License-Identifier: Apache-2.0
"""The gateway's settings: one TOML file, read strictly. Nothing is opened or contacted here.

A name that is not known, a value that cannot be, or a secret where it does not belong is refused
with the place and what would be accepted.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from dao.eip712 import checksum_address
from dao.errors import BadUse
from meters.dispatch import KEYS
from meters.gateway.intervals import DIRECTIONS, Direction, Feed, Rules

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

STREAMS = {"p1": "dsmr", "sml": "sml"}
"""Kinds that push telegrams over a line, and the adapter that reads them."""
JSON_KINDS = ("tasmota", "shelly", "homewizard", "fronius")
KINDS = (*STREAMS, "sunspec", *JSON_KINDS, "power", "ocpp")
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "p1": ("tcp", "serial"),
    "sml": ("tcp", "serial"),
    "sunspec": ("tcp",),
    **dict.fromkeys((*JSON_KINDS, "power"), ("http", "https", "mqtt", "mqtts")),
    "ocpp": ("ws",),
}

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where a device or server is: the parts of a URL, and the URL without its password."""

    url: str

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def scheme(self) -> str:
        return self.parts.scheme

    @property
    def host(self) -> str:
        return self.parts.hostname or ""

    def port(self, default: int) -> int:
        """The port named, or the protocol's own."""
        return self.parts.port or default

    def __str__(self) -> str:
        parts = self.parts
        shown = parts.hostname or ""
        if parts.port:
            shown += f":{parts.port}"
        return parts._replace(netloc=shown, query="").geturl()

    def __repr__(self) -> str:
        return f"Endpoint({self})"


@dataclass(frozen=True)
class SourceSettings:
    """One device that is read. `channels`: names of its meters to add up, none for the only one.

    every_s: how often it is asked; silent_s: after how long without a sample it counts as silent;
    clock_s: by how much its own clock may differ from ours and still be believed; power: path of
    the watts in a JSON payload; unit: Modbus unit id.
    """

    name: str
    kind: str
    address: Endpoint
    directions: tuple[Direction, ...] = DIRECTIONS
    crossed: bool = False
    rules: Rules = field(default_factory=Rules)
    channels: tuple[str, ...] = ()
    every_s: float = 10.0
    silent_s: float = 300.0
    clock_s: float = 10.0
    timezone: ZoneInfo | None = None
    topic: str | None = None
    power: str | None = None
    unit: int = 1
    baud: int = 115_200
    key_file: Path | None = None

    @property
    def feed(self) -> Feed:
        """The source's part in the metering point."""
        return Feed(self.name, self.rules, self.directions, self.crossed, self.power is not None)


@dataclass(frozen=True)
class DeviceSettings:
    """One device that is steered: `kind` as in `dispatch.KEYS`, and how it is spoken to.

    revert_s: after how long without a word from us the device falls back to its own programme;
    rated_w: its rating where it does not tell; source: the charge points' OCPP source.
    """

    name: str
    kind: str
    address: Endpoint | None = None
    source: str | None = None
    unit: int = 1
    revert_s: int = 300
    rated_w: int | None = None


@dataclass(frozen=True)
class ChainSettings:
    """Which chain and contracts the signatures are for; `rpc` a node to ask, if there is one."""

    chain_id: int
    registry: str
    ledger: str
    market: str | None = None
    parameters: str | None = None
    rpc: Endpoint | None = None


@dataclass(frozen=True)
class CollectorSettings:
    """Who takes the readings: HTTP always (heads are asked there), MQTT for the rest if named.

    address: the account that signs acknowledgements; spread_s: over how long after a quarter-hour
    the gateways of a zone spread their frames; first_s and most_s: bounds of the random wait before
    trying again; answer_s: how long to wait for an acknowledgement.
    """

    url: Endpoint
    address: str
    mqtt: Endpoint | None = None
    mqtt_password_file: Path | None = None
    ca_file: Path | None = None
    spread_s: float = 120.0
    first_s: float = 60.0
    most_s: float = 900.0
    answer_s: float = 30.0


@dataclass(frozen=True)
class MarketSettings:
    """Where delivery receipts go. wait_s: how long after a session a slot that is not known is
    waited for; then it counts as nothing delivered."""

    relay: Endpoint
    sessions_per_day: int = 4
    wait_s: float = 7_200.0


@dataclass(frozen=True)
class Settings:
    """Everything a gateway needs to know. `folder` holds its outbox, keys and status."""

    id: str
    meter: int
    zone: int
    folder: Path
    chain: ChainSettings
    collector: CollectorSettings
    sources: tuple[SourceSettings, ...]
    devices: tuple[DeviceSettings, ...] = ()
    market: MarketSettings | None = None
    absent: tuple[Direction, ...] = ()
    password_file: Path | None = None
    outbox_bytes: int = 64 << 20
    patience_s: float = 3_600.0
    checkpoint_s: float = 60.0
    origin: Path = field(default=Path("gateway.toml"))

    @property
    def outbox(self) -> Path:
        return self.folder / "outbox.sqlite"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def first_key(self) -> Path:
        return self.folder / "key.json"


def read(path: Path) -> Settings:
    """The settings in a TOML file. BadUse, with the place, for anything that cannot be."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadUse(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Settings:
    """The settings in a text that stands in `path`, or is to."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadUse(f"{path} is not TOML: {error}") from None
    try:
        return _settings(document, path)
    except BadUse as error:
        raise BadUse(f"{path}: {error}") from None


class _Table:
    """One table while it is read: every name asked for, and nothing left over at the end."""

    def __init__(self, document: object, place: str, folder: Path) -> None:
        if not isinstance(document, Mapping):
            raise BadUse(f"[{place}] is not a table")
        self.place = place
        self._left = dict(document)
        self._asked: list[str] = []
        self._folder = folder

    def take(self, name: str, read: Callable[[object], T], *default: T) -> T:
        """The value under a name, read; the default where there is none, BadUse without one."""
        self._asked.append(name)
        if name not in self._left:
            if default:
                return default[0]
            raise BadUse(f"[{self.place}] lacks {name}")
        value = self._left.pop(name)
        try:
            return read(value)
        except BadUse as error:
            raise BadUse(f"[{self.place}] {name}: {error}") from None

    def tables(self, name: str) -> list[_Table]:
        """The tables of an array, each called after its place in it."""
        self._asked.append(name)
        value = self._left.pop(name, [])
        if not isinstance(value, list):
            raise BadUse(f"write [[{name}]], with two brackets each")
        return [_Table(one, f"{name} {i}", self._folder) for i, one in enumerate(value, start=1)]

    def table(self, name: str) -> _Table | None:
        """A table of its own, None where it is not there."""
        self._asked.append(name)
        value = self._left.pop(name, None)
        return None if value is None else _Table(value, name, self._folder)

    def end(self) -> None:
        """BadUse if a name was never asked for: a typing error must not pass for a default."""
        for name in self._left:
            near = difflib.get_close_matches(name, self._asked, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(self._asked)}"
            raise BadUse(f"[{self.place}] does not know {name}{hint}")

    def path(self, value: object) -> Path:
        """A path, beside the settings file unless absolute."""
        return self._folder / Path(_text(value)).expanduser()


def _settings(document: Mapping[str, Any], origin: Path) -> Settings:
    folder = origin.absolute().parent
    whole = _Table(document, "file", folder)
    gateway = whole.table("gateway")
    chain, collector = whole.table("chain"), whole.table("collector")
    if gateway is None or chain is None or collector is None:
        missing = "gateway" if gateway is None else "chain" if chain is None else "collector"
        raise BadUse(f"the table [{missing}] is missing")
    market = whole.table("market")
    meter = gateway.take("meter", _integer(1, 2**32 - 1))
    made = Settings(
        id=gateway.take("id", _id, f"meter-{meter}"),
        meter=meter,
        zone=gateway.take("zone", _integer(1, 1_023)),
        folder=gateway.take("folder", gateway.path, folder / f"gateway-{meter}"),
        absent=gateway.take("absent", _directions, ()),
        password_file=gateway.take("password_file", gateway.path, None),
        outbox_bytes=gateway.take("outbox_mib", _integer(1, 1 << 20), 64) << 20,
        patience_s=gateway.take("patience_s", _number(0, 86_400 * 31), 3_600.0),
        checkpoint_s=gateway.take("checkpoint_s", _number(0, 900), 60.0),
        chain=_chain(chain),
        collector=_collector(collector),
        sources=tuple(_source(table) for table in whole.tables("source")),
        devices=tuple(_device(table) for table in whole.tables("device")),
        market=None if market is None else _market(market),
        origin=origin,
    )
    gateway.end()
    whole.end()
    _check(made)
    return made


def _check(made: Settings) -> None:
    """What only the whole file can show."""
    if not made.sources:
        raise BadUse("there is no [[source]]: nothing would be measured")
    names = [source.name for source in made.sources] + [device.name for device in made.devices]
    for name in names:
        if names.count(name) > 1:
            raise BadUse(f"two sources or devices are called {name}: give each its own name")
    for direction in made.absent:
        if any(direction in source.directions for source in made.sources):
            raise BadUse(
                f"absent says that there is no {direction}, but a source measures it: name the "
                "source's directions"
            )
    if made.market is not None and made.chain.market is None:
        raise BadUse("[market] needs the market's address: [chain] market")
    for device in made.devices:
        if device.source is not None:
            kinds = {source.name: source.kind for source in made.sources}
            if kinds.get(device.source) != "ocpp":
                raise BadUse(f"[device] {device.name}: there is no ocpp source {device.source}")
    if made.devices and (made.chain.rpc is None or made.chain.parameters is None):
        raise BadUse("[[device]] needs the chain that its schedule stands on: rpc and parameters")


def _chain(table: _Table) -> ChainSettings:
    made = ChainSettings(
        chain_id=table.take("id", _integer(1, 2**63)),
        registry=table.take("registry", _address),
        ledger=table.take("ledger", _address),
        market=table.take("market", _address, None),
        parameters=table.take("parameters", _address, None),
        rpc=table.take("rpc", _endpoint("http", "https"), None),
    )
    table.end()
    return made


def _collector(table: _Table) -> CollectorSettings:
    made = CollectorSettings(
        url=table.take("url", _endpoint("http", "https")),
        address=table.take("address", _address),
        mqtt=table.take("mqtt", _endpoint("mqtt", "mqtts"), None),
        mqtt_password_file=table.take("mqtt_password_file", table.path, None),
        ca_file=table.take("ca_file", table.path, None),
        spread_s=table.take("spread_s", _number(0, 900), 120.0),
        first_s=table.take("first_s", _number(0.01, 3_600), 60.0),
        most_s=table.take("most_s", _number(0.01, 86_400), 900.0),
        answer_s=table.take("answer_s", _number(0.1, 600), 30.0),
    )
    if made.most_s < made.first_s:
        raise BadUse("[collector] most_s lies below first_s")
    table.end()
    return made


def _market(table: _Table) -> MarketSettings:
    made = MarketSettings(
        relay=table.take("relay", _endpoint("http", "https")),
        sessions_per_day=table.take("sessions_per_day", _one_of(1, 2, 4, 8, 24), 4),
        wait_s=table.take("wait_s", _number(0, 7 * 86_400), 7_200.0),
    )
    table.end()
    return made


def _source(table: _Table) -> SourceSettings:
    kind = table.take("kind", _one_of(*KINDS))
    table.place = f"{table.place} ({kind})"
    is_json = kind in JSON_KINDS or kind == "power"
    power = table.take("power", _text, None) if is_json else None
    if kind == "power" and power is None:
        raise BadUse(f"[{table.place}] lacks power: the path of the watts in the payload, a/b/c")
    address = table.take("address", _endpoint(*SCHEMES[kind]))
    topic = None
    if address.scheme.startswith("mqtt"):
        topic = table.take("topic", _text)
    made = SourceSettings(
        name=table.take("name", _id, kind),
        kind=kind,
        address=address,
        directions=table.take("directions", _directions, DIRECTIONS),
        crossed=table.take("crossed", _flag, False),
        rules=_rules(table),
        channels=table.take("channels", _texts, ()),
        every_s=table.take("every_s", _number(0.1, 900), 10.0),
        silent_s=table.take("silent_s", _number(1, 86_400), 300.0),
        clock_s=table.take("clock_s", _number(0, 86_400), 10.0),
        timezone=table.take("timezone", _zone, None),
        topic=topic,
        power=power,
        unit=table.take("unit", _integer(0, 247), 1),
        baud=table.take("baud", _integer(300, 4_000_000), 9_600 if kind == "sml" else 115_200),
        key_file=table.take("key_file", table.path, None),
    )
    table.end()
    return made


def _rules(table: _Table) -> Rules:
    plain = Rules()
    try:
        return Rules(
            near_s=table.take("near_s", _number(1, 900), plain.near_s),
            bridge_s=table.take("bridge_s", _number(1, 366 * 86_400), plain.bridge_s),
            power_near_s=table.take("power_near_s", _number(1, 900), plain.power_near_s),
            power_gap_s=table.take("power_gap_s", _number(1, 3_600), plain.power_gap_s),
            capacity_w=table.take("capacity_w", _integer(1, 10**9), plain.capacity_w),
            resolution_wh=table.take("resolution_wh", _integer(0, 10**6), plain.resolution_wh),
            rollover_wh=table.take("rollover_wh", _integer(1, 2**53), None),
            frozen_s=table.take("frozen_s", _number(0, 366 * 86_400), plain.frozen_s),
        )
    except BadUse as error:
        text = str(error)
        raise BadUse(text if text.startswith("[") else f"[{table.place}] {text}") from None


def _device(table: _Table) -> DeviceSettings:
    kind = table.take("kind", _one_of(*KEYS))
    table.place = f"{table.place} ({kind})"
    is_ocpp = kind == "charge_points"
    made = DeviceSettings(
        name=table.take("name", _id, kind),
        kind=kind,
        address=None if is_ocpp else table.take("address", _endpoint("tcp")),
        source=table.take("source", _text) if is_ocpp else None,
        unit=table.take("unit", _integer(0, 247), 1),
        revert_s=table.take("revert_s", _integer(10, 3_600), 300),
        rated_w=table.take("rated_w", _integer(1, 10**9), None),
    )
    table.end()
    return made


# Readers of single values


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadUse("expected a text")
    return value.strip()


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadUse('expected a list of texts, like ["a", "b"]')
    return tuple(_text(one) for one in value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadUse("expected true or false")
    return value


def _integer(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadUse(f"expected a whole number, {lowest}..{highest}")
        if not lowest <= value <= highest:
            raise BadUse(f"{value} is out of range, expected {lowest}..{highest}")
        return value

    return read


def _number(lowest: float, highest: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadUse(f"expected a number, {lowest}..{highest}")
        if not lowest <= value <= highest:
            raise BadUse(f"{value} is out of range, expected {lowest}..{highest}")
        return float(value)

    return read


def _one_of(*accepted: T) -> Callable[[object], T]:
    def read(value: object) -> T:
        if isinstance(value, bool) or value not in accepted:
            shown = value if isinstance(value, str | int) else type(value).__name__
            raise BadUse(f"{shown} is not one of {', '.join(map(str, accepted))}")
        return accepted[accepted.index(value)]  # type: ignore[arg-type]

    return read


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadUse("expected 1 to 64 letters, digits, _ or -")
    return value


def _directions(value: object) -> tuple[Direction, ...]:
    listed: Sequence[object] = value if isinstance(value, list) else [value]
    if not listed or any(one not in DIRECTIONS for one in listed):
        raise BadUse('expected ["import"], ["export"] or both')
    return tuple(direction for direction in DIRECTIONS if direction in listed)


def _address(value: object) -> str:
    try:
        return checksum_address(_text(value))
    except ValueError:
        raise BadUse("expected an address of 20 bytes, 0x...") from None


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(_text(value))
    except (ValueError, OSError, KeyError):
        raise BadUse("unknown time zone, expected a name like Europe/Amsterdam") from None


def _endpoint(*schemes: str) -> Callable[[object], Endpoint]:
    def read(value: object) -> Endpoint:
        text = _text(value)
        expected = " or ".join(f"{scheme}://..." for scheme in schemes)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise BadUse(f"not an address ({error}), expected {expected}") from None
        if parts.scheme not in schemes:
            raise BadUse(f"expected {expected}")
        if parts.password is not None:
            raise BadUse("a password does not belong into this file: name a file that holds it")
        if parts.scheme == "serial":
            if not parts.path.startswith("/"):
                raise BadUse("expected serial:///dev/...")
        elif not parts.hostname or port == 0:
            raise BadUse(f"no host in it, expected {expected}")
        elif parts.scheme in ("tcp", "ws") and port is None:
            raise BadUse(f"no port in it, expected {parts.scheme}://host:port")
        return Endpoint(text)

    return read
