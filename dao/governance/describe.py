# SPDX-License-Identifier: Apache-2.0
"""What a proposal's calls mean, in plain words: which rule, in which unit, before and after.

Calls are read by the ABIs of the deployment's contracts. Everything in a proposal was written by
somebody else, so nothing here fails on what it cannot read: it is shown as bytes. What a call would
do is found out in `simulate`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dao.chain import Contract
from dao.deployment import Deployment
from dao.eip712 import checksum_address
from dao.errors import BadUse, CheckFailed
from dao.governance.proposals import Call
from dao.parameters import (
    CHARGE_POINTS,
    COMMUNITY_BATTERY,
    HOME_BATTERIES,
    KEYS,
    MAX_CHARGE_POINT_W,
    WINDOW_NAMES,
)
from dao.slots import SLOTS_PER_DAY, slot_start

_SHOWN_BYTES = 256
_LAST_SLOT = 10**8
"""Far beyond the year 3000 and within what a date can hold."""

_TIMES = frozenset(
    {
        "gate_lead",
        "clear_period",
        "receipt_period",
        "forecast_lead",
        "finality",
        "abandon_period",
        "holding_time",
        "admission_delay",
    }
)
_MICRO_EURO = frozenset({"max_slash", "max_reward"})
_SHARES = frozenset({"quorum", "zone_quorum", "veto_share", "forfeit_share"})
_UNITS = {
    "sessions_per_day": "sessions a day",
    "price_band_min": "µ€/Wh",
    "price_band_max": "µ€/Wh",
    "grid_fee": "µ€/Wh",
    "penalty": "µ€/Wh",
    "min_order_wh": "Wh",
    "max_slot_wh": "Wh",
    "naive_spread": "Wh",
    "skill_threshold": "‰",
    "battery_max_w": "W",
    "max_exempt_slots": "slots a day",
    "min_homes": "homes",
    "proposal_bond": "€",
    "probation_days": "days",
    "max_allowance": "proposals a zone and day",
}
_NAMES = {key: name for name, key in KEYS.items()}
_EURO_CONTRACTS = ("Treasury", "TestEuro", "ForecastRegistry", "EnergyMarket")


@dataclass(frozen=True)
class Reading:
    """One call as it was understood. `contract` and `function` are None where it was not."""

    target: str
    text: str
    contract: str | None = None
    function: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_call(deployment: Deployment, call: Call, block: int | str = "latest") -> Reading:
    """A call in plain words; values before it are those at `block`."""
    contract = next(
        (c for c in deployment.contracts.values() if c.address.lower() == call.target.lower()),
        None,
    )
    paid = f", with {call.value:,} wei" if call.value else ""
    if contract is None:
        return Reading(call.target, f"{_unknown(f'unknown contract {call.target}', call)}{paid}")
    decoded = _decoded(contract, call.calldata)
    if decoded is None:
        what = _unknown(f"{contract.name} {contract.address}", call)
        return Reading(call.target, f"{what}{paid}", contract.name)
    function, arguments = decoded
    text = _words(deployment, contract, function, arguments, block)
    if not _is_canonical(contract, function, arguments, call.calldata):
        # The same meaning, but not the same bytes as anybody would write: worth a question.
        text += f" (encoded unusually: {_hex(call.calldata)})"
    return Reading(call.target, f"{text}{paid}", contract.name, function, arguments)


def read_calls(
    deployment: Deployment, calls: Sequence[Call], block: int | str = "latest"
) -> list[Reading]:
    """Calls in plain words, in order."""
    return [read_call(deployment, call, block) for call in calls]


_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def plain_text(text: str) -> str:
    """Somebody else's text, safe to show: one that moves the cursor, turns the reading direction
    or is no text at all shows its escapes instead."""
    # JSON may hold halves of a sign, which stand for no byte.
    whole = _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    readable = whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(sign if _is_printable(sign) else _escape(sign) for sign in readable)


def utc(seconds: int) -> str:
    """Unix seconds as a UTC time, or the bare number where no calendar reaches."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds}"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def rule_value(name: str, value: int) -> str:
    """A rule's value with its unit."""
    if name in _TIMES:
        return duration(value)
    if name in _MICRO_EURO:
        return f"{euro(value)} a day"
    if name in _SHARES:
        return f"{value / 100:g} %"
    return f"{value:,} {_UNITS[name]}" if name in _UNITS else f"{value:,}"


def rule_name(key: int) -> str:
    """What a key of `GridParameters` stands for."""
    return _NAMES.get(key) or WINDOW_NAMES.get(key, f"the rule of key {key}")


def duration(seconds: int) -> str:
    """Seconds in the largest units that fit: `2 d`, `1 h 30 min`."""
    parts = []
    left = seconds
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts) or "0 s"


def euro(amount: int) -> str:
    """Token units (6 decimals) as euro, exactly."""
    sign, (whole, rest) = "-" if amount < 0 else "", divmod(abs(amount), 10**6)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole:,}.{decimals} €"


def _words(
    deployment: Deployment,
    contract: Contract,
    function: str,
    arguments: Mapping[str, Any],
    block: int | str,
) -> str:
    if contract.name == "GridParameters" and function == "set_value":
        key, after = arguments.values()
        name = rule_name(key)
        before = _value(contract, key, block)
        since = "" if before is None else f" from {rule_value(name, before)}"
        return f"set {name}{since} to {rule_value(name, after)}"
    if contract.name == "GridParameters" and function == "open_window":
        zone, key, first_slot, slots, value = arguments.values()
        return _windows(contract, zone, key, [(first_slot, slots, value)], block)
    if contract.name == "GridParameters" and function == "open_windows":
        zone, key, words = arguments.values()
        return _windows(contract, zone, key, [unpack_window(word) for word in words], block)
    shown = [
        f"{name}={_argument(deployment, contract, name, value)}"
        for name, value in arguments.items()
    ]
    return f"{contract.name}.{function}({', '.join(shown)})"


def unpack_window(word: int) -> tuple[int, int, int]:
    """First slot, slots and value of a word that `GridParameters.open_windows` takes."""
    value = word >> 128
    return (
        word & (2**64 - 1),
        (word >> 64) & (2**64 - 1),
        value - 2**128 if value >> 127 else value,
    )


def _windows(
    parameters: Contract,
    zone: int,
    key: int,
    windows: Sequence[tuple[int, int, int]],
    block: int | str,
) -> str:
    if key in _DEVICES:
        who, does, unchanged = _DEVICES[key]
        parts = [f"{does(value)} {_span(first, slots)}" for first, slots, value in windows]
        return f"{who} {zone} {'; '.join(parts) or unchanged}"
    name = rule_name(key)
    before = _value(parameters, key, block)
    since = "" if before is None else f" instead of {rule_value(name, before)}"
    parts = [f"{rule_value(name, value)} {_span(first, slots)}" for first, slots, value in windows]
    return f"{name} in zone {zone}{since}: {'; '.join(parts) or 'no change'}"


def _battery(power: int) -> str:
    if power == 0:
        return "rests"
    return f"{'charges' if power > 0 else 'discharges'} at {abs(power):,} W"


def _charge_points(cap: int) -> str:
    if cap == 0:
        return "may draw nothing"
    if 0 < cap <= MAX_CHARGE_POINT_W:
        return f"may draw at most {cap / 1_000:g} kW"
    return f"may draw at most {cap:,} W"


def _home_batteries(share: int) -> str:
    if share == 0:
        return "rest"
    percent = f"{abs(share) // 10:,}" + (f".{abs(share) % 10}" if share % 10 else "")
    return f"{'charge' if share > 0 else 'discharge'} at {percent} % of their rated power"


# Whose windows a key is for, what a value tells them, and what no window leaves.
_DEVICES = {
    COMMUNITY_BATTERY: ("the community battery of zone", _battery, "keeps its plan"),
    CHARGE_POINTS: ("charge points taking part in zone", _charge_points, "keep their caps"),
    HOME_BATTERIES: ("home batteries taking part in zone", _home_batteries, "keep their plans"),
}


def _span(first_slot: int, slots: int) -> str:
    if first_slot > _LAST_SLOT or slots > SLOTS_PER_DAY:
        return f"from slot {first_slot:,} for {slots:,} slots"
    start, end = slot_start(first_slot), slot_start(first_slot + slots)
    return f"from {start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"


def _value(parameters: Contract, key: int, block: int | str) -> int | None:
    try:
        return int(parameters.call("value", key, block=block))
    except (CheckFailed, BadUse):
        return None  # no such rule, or not known at that block: what is proposed can be told still


def _argument(deployment: Deployment, contract: Contract, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        if name == "key":
            return rule_name(value)
        if name == "first_slot" and 0 < value <= _LAST_SLOT:
            return f"{slot_start(value):%Y-%m-%d %H:%M} UTC"
        if name.endswith(("_at", "expiry", "deadline")) and value:
            return utc(value)
        if name == "amount" and contract.name in _EURO_CONTRACTS:
            return euro(value)
        return f"{value:,}"
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, Mapping):
        inner = (f"{k}={_argument(deployment, contract, k, v)}" for k, v in value.items())
        return f"({', '.join(inner)})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_argument(deployment, contract, name, one) for one in value)}]"
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        known = {c.address: c.name for c in deployment.contracts.values()}
        return known.get(checksum_address(value), value)
    return f'"{plain_text(str(value))}"'


def _decoded(contract: Contract, calldata: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        return contract.interface.decode_call(calldata)
    except ValueError:
        return None


def _is_canonical(
    contract: Contract, function: str, arguments: Mapping[str, Any], calldata: bytes
) -> bool:
    try:
        return contract.encode(function, *arguments.values()) == calldata
    except BadUse:
        return False  # a text that is no UTF-8


def _unknown(whom: str, call: Call) -> str:
    if not call.calldata:
        return f"{whom}: no call"
    if len(call.calldata) < 4:
        return f"{whom}: {_hex(call.calldata)}"
    rest = f" with {_hex(call.calldata[4:])}" if len(call.calldata) > 4 else ""
    return f"{whom}: unknown function 0x{call.calldata[:4].hex()}{rest}"


def _hex(data: bytes) -> str:
    if len(data) <= _SHOWN_BYTES:
        return f"0x{data.hex()}"
    return f"0x{data[:_SHOWN_BYTES].hex()}... ({len(data):,} bytes)"


def _is_printable(sign: str) -> bool:
    return sign == "\n" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
