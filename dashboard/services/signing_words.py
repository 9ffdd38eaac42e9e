# SPDX-License-Identifier: Apache-2.0
"""What a signature would do, in words, for the window of the demonstration people's wallet.

Titles for what GridCommons asks people to sign; everything else is shown field by field. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dao.market.solver import ASK
from dao.slots import SLOT_SECONDS
from dashboard.i18n import _, formats
from dashboard.services.agent_words import hours_in_words

Fact = tuple[str, str]
_MAX_FACTS = 16
_MAX_VALUE = 200
_MAX_EVERYTHING = 20_000
_CENT = 100_000  # a daily cap counts ten cents, in µ€


@dataclass(frozen=True)
class Asked:
    """One request in words. everything: all that is signed, as text."""

    title: str
    facts: tuple[Fact, ...]
    everything: str


def of_message(text: str) -> Asked:
    """A plain text."""
    return Asked(_("Sign a text"), (), text[:_MAX_EVERYTHING])


def of_transaction(fields: Mapping[str, Any], name: str | None) -> Asked:
    """A transaction; `name` is the contract that it calls, where that is one of ours."""
    data = bytes(fields["data"])
    facts = [(_("To"), name or str(fields["to"]))]
    if fields["value"]:
        facts.append((_("Coins"), f"{fields['value'] / 10**18:.6f}"))
    if data:
        facts.append((_("Call"), "0x" + data[:4].hex()))
    everything = {**fields, "data": "0x" + data.hex()}
    return Asked(_("Send a transaction"), tuple(facts), _pretty(everything))


def of_typed_data(document: Mapping[str, Any]) -> Asked:
    """A document of EIP-712."""
    message, kind = document.get("message"), str(document.get("primaryType"))
    everything = _pretty(document)
    words = _KINDS.get(kind)
    if words is not None and isinstance(message, Mapping):
        try:
            title, facts = words(message)
            return Asked(title, tuple(facts), everything)
        except (KeyError, ValueError, TypeError, ArithmeticError, OSError):
            pass  # Another program's type of the same name.
    fields = message.items() if isinstance(message, Mapping) else ()
    facts = [(str(name)[:60], _short(value)) for name, value in list(fields)[:_MAX_FACTS]]
    return Asked(_("Sign “{kind}”").format(kind=kind[:60]), tuple(facts), everything)


def _order(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    fmt = formats()
    side, slots = _number(message, "side"), _number(message, "slots")
    first = _number(message, "firstSlot") * SLOT_SECONDS
    price = fmt.ct(_number(message, "limit"))
    sells = side == ASK
    facts = [
        (
            _("Price"),
            (_("at least {price}") if sells else _("at most {price}")).format(price=price),
        ),
        (_("From"), fmt.moment(first)),
        (_("Until"), fmt.moment(first + slots * SLOT_SECONDS)),
    ]
    if int(str(message["profile"]), 16) == 0:
        energy = fmt.kwh(_number(message, "wh") * slots, 2)
        title = _("Sell {energy}") if sells else _("Buy {energy}")
        return title.format(energy=energy), facts
    # Only a hash of the amounts is signed.
    facts.append((_("Energy"), _("by quarter-hour, as the page shows it")))
    return (_("Sell energy") if sells else _("Buy energy")), facts


def _withdrawal(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    amount = formats().euro(_number(message, "amount"))
    facts = [
        (_("Paid to"), _short(message["to"])),
        (_("Good until"), formats().moment(_number(message, "deadline"))),
    ]
    return _("Take out {amount}").format(amount=amount), facts


def _permit(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    amount = formats().euro(_number(message, "value"))
    facts = [
        (_("Who may take it"), _short(message["spender"])),
        (_("Good until"), formats().moment(_number(message, "deadline"))),
    ]
    return _("Pay in {amount}").format(amount=amount), facts


def _revocation(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("Take an order back"), [(_("Order number"), str(_number(message, "nonce")))]


def _mandate(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    fmt = formats()
    sells = _number(message, "side") == ASK
    price = fmt.ct(_number(message, "limit"))
    last_day = fmt.date(_number(message, "lastDay") * 86_400)
    facts = [
        (
            _("Price"),
            (_("at least {price}") if sells else _("at most {price}")).format(price=price),
        ),
        (_("At most a day"), fmt.euro(_number(message, "dailyCap") * _CENT)),
        (_("Last day"), last_day),
        (_("Agent"), _short(message["agent"])),
    ]
    return (_("Let the agent sell for you") if sells else _("Let the agent buy for you")), facts


def _standing_offer(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    fmt = formats()
    sells = _number(message, "side") == ASK
    if message["withdrawn"] is True:
        title = _("End your offer to sell") if sells else _("End your offer to buy")
        return title, [(_("Version"), str(_number(message, "version")))]
    price = fmt.ct(_number(message, "limit"))
    facts = [
        (
            _("Price"),
            (_("at least {price}") if sells else _("at most {price}")).format(price=price),
        ),
        (
            _("Kept back a day") if sells else _("At most a day"),
            fmt.kwh(_number(message, "dailyWh")),
        ),
        (_("Hours"), hours_in_words(_number(message, "hours"))),
        (_("Good until"), fmt.moment(_number(message, "validUntil"))),
    ]
    return (_("Offer what you do not need") if sells else _("Ask for what you need")), facts


def _mandate_end(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("End the agent’s mandate"), [(_("Mandate"), str(_number(message, "number")))]


def _ballot(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    says = {
        0: _("against"),
        1: _("for"),
        2: _("abstain"),
        3: _("against, with a veto"),
    }[_number(message, "support")]
    facts = [
        (_("Your vote"), says),
        (_("Proposal"), _short(message["proposalId"])),
        (_("Good until"), formats().moment(_number(message, "deadline"))),
    ]
    return _("Vote"), facts


def _delegation(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("Let somebody vote for you"), [(_("Who"), _short(message["delegatee"]))]


def _read_grant(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    fmt = formats()
    facts = [
        (_("Who may read"), _short(message["reader"])),
        (_("From"), fmt.moment(_number(message, "fromSlot") * SLOT_SECONDS)),
        (_("Until"), fmt.moment(_number(message, "toSlot") * SLOT_SECONDS)),
        (_("Good until"), fmt.moment(_number(message, "expires"))),
    ]
    return _("Let somebody read your readings"), facts


def _grant_revocation(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("End a grant to read"), [(_("Grant"), _short(message["grant"]))]


def _erasure(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    facts = [
        (_("Metering point"), str(_number(message, "meter"))),
        (_("Good until"), formats().moment(_number(message, "deadline"))),
        (_("Can it be undone?"), _("No. The readings are gone for good.")),
    ]
    return _("Erase your readings of {month}").format(month=_short(message["month"])[:7]), facts


def _access(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("Read under a grant"), [(_("Grant"), _short(message["grant"]))]


def _record(message: Mapping[str, Any]) -> tuple[str, list[Fact]]:
    return _("See who read"), [(_("Metering point"), str(_number(message, "meter")))]


_KINDS: dict[str, Callable[[Mapping[str, Any]], tuple[str, list[Fact]]]] = {
    "Order": _order,
    "Withdrawal": _withdrawal,
    "Permit": _permit,
    "Revocation": _revocation,
    "Mandate": _mandate,
    "MandateEnd": _mandate_end,
    "StandingOffer": _standing_offer,
    "Ballot": _ballot,
    "Delegation": _delegation,
    "ReadGrant": _read_grant,
    "GrantRevocation": _grant_revocation,
    "EraseMonth": _erasure,
    "ReadAccess": _access,
    "AccessRecord": _record,
}


def _number(message: Mapping[str, Any], field: str) -> int:
    return int(str(message[field]), 0)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "…"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)[:_MAX_EVERYTHING]
