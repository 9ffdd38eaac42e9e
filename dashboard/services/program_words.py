# SPDX-License-Identifier: Apache-2.0
"""What relay, routes, checks and the demo say of themselves, in the visitor's language.

They speak English to every program alike. What a resident may come to see of it is listed here,
as it is said there; anything else is shown as it came. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from dashboard.i18n import N_, _, formats

# By what is filled in: `money...` is a number of µ€, `wh` of Wh; anything else stays as it came.
SAID = (
    # Orders
    N_("the gate closed at {time}"),
    N_("the gate is too close to promise a posting: it closes at {time}"),
    N_("an order for another session"),
    N_("the session's book is full"),
    N_("the session is void"),
    N_("the market is paused at the session's gate: it will be void"),
    N_("{wh} Wh in all"),
    N_("{wh} Wh or more"),
    N_("{wh} Wh in a slot"),
    N_("at most {wh} Wh in each"),
    N_("{open} orders are open and {waiting} wait"),
    N_("fewer than {number} together"),
    N_("needs an escrow of {money}, the account has {money_free} free"),
    N_("a smaller order, or a deposit first"),
    N_("too many orders"),
    N_("revoked by its owner"),
    N_("its mandate was ended"),
    N_("the market is paused at the gate"),
    # Mandates
    N_("{number} is not in force"),
    N_("one that was granted"),
    N_("that of a mandate which was granted"),
    N_("not what the mandate allows"),
    N_("beyond the mandate's price"),
    N_("its last day is past"),
    N_("one that is in force"),
    N_("{money} more than the {money_today} of today would pass its daily cap"),
    N_("orders that put at most {money} in escrow"),
    N_("another mandate {number} waits here"),
    N_("a number not used before"),
    # Numbers, times and signatures
    N_("one of {numbers}"),
    N_("none until an order is posted"),
    N_("none is free now"),
    N_("a number, or once an order is posted"),
    N_("{number} is used, revoked, or too far ahead"),
    N_("{number} is used by what is on the chain, revoked, or too far ahead"),
    N_("{number} is taken by what waits here"),
    N_("the number of something that was not posted yet"),
    N_("{number} is not the next one"),
    N_("{number} is past, or too near to arrive in time"),
    N_("{number} or later"),
    N_("not by {who}, or over other values"),
    N_("the signature of {address} over the typed data of these fields"),
    N_("{address} is a contract, and here only keys can sign"),
    N_("a transaction of the wallet's own"),
    N_("{address} is not an address"),
    N_("its checksum is wrong"),
    N_("the zero address"),
    N_("an address: 0x and 40 hex digits, in mixed case with the right checksum"),
    # Money
    N_("the account has {money} free"),
    N_("{money} is promised to what waits here"),
    N_("a deposit first"),
    N_("the owner's wallet holds {money}"),
    N_("money in the owner's wallet first"),
    N_("more than an account may hold"),
    # Accounts
    N_("{account} is not open"),
    N_("{account} lies in zone {zone}"),
    N_("an account of zone {zone}"),
    N_("an account that was opened"),
    # Votes
    N_("there is none with this id"),
    N_("the id of one that was made"),
    N_("its vote is not open: it is {state}"),
    N_("one whose vote is open"),
    N_("its vote closes too soon for a ballot to arrive in time"),
    N_("one whose vote is open for longer"),
    N_("has voted"),
    N_("one ballot for each member and proposal"),
    # The relay as a whole
    N_("too many requests"),
    N_("too many requests signed so"),
    N_("too many at once"),
    N_("too many files"),
    N_("too many offers"),
    N_("again in {seconds} s"),
    N_("the same again"),
    N_("the same again, later"),
    N_("the same again, in a few minutes"),
    N_("the same again, signed anew"),
    N_("the same later"),
    N_("the same later, signed anew"),
    N_("the relay cannot read the chain"),
    N_("the relay does not answer"),
    N_("there is no relay here"),
    N_("nothing is lost, and sending it again is safe"),
    N_("nothing was changed"),
    N_("nothing was changed, and sending it again is safe"),
    N_("no relay is known here"),
    N_("the relay refused order: not known here"),
    # Signing in
    N_("nobody is signed in"),
    N_("a browser that is signed in"),
    N_("this browser asked for no text"),
    N_("the challenge first"),
    N_("the text from the challenge"),
    N_("not {address}'s"),
    N_("the account's own signature"),
    N_("it has expired"),
    N_("a text signed within minutes"),
    N_("it was used before"),
    N_("a text that is new"),
    N_("it was not made for this browser"),
    N_("a text from here"),
    N_("too many people sign in"),
    N_("a try a little later"),
    N_("no contracts are deployed yet"),
    N_("sent by another page"),
    # One's own data
    N_("not one of yours"),
    N_("a metering point of the person that is signed in"),
    N_("no market is known here"),
    N_("you have no such order"),
    N_("none of these days is committed yet, or they were erased"),
    N_("this cannot be read now"),
    N_("it cannot be read now"),
    N_("this cannot be checked now"),
    N_("no receipt of your meter for this session is kept here"),
    N_("the grant has expired already"),
    N_("the grant is not signed by the owner of meter {number}"),
    N_("this grant was revoked: sign a new one, with another nonce"),
    N_("there is no such grant"),
    N_("a grant that holds"),
    N_("nothing was given out"),
    N_("what the owner signs"),
    N_("another erasure is running"),
    N_("nothing of this month was erased yet"),
    N_("nothing was erased, everything is where it was"),
    N_("the erasure broke off"),
    N_("what is erased stays erased, signing again completes it"),
    # Standing offers
    N_("not a signed offer"),
    N_("the offer cannot be checked now"),
    N_("not by the account's owner, or over other values"),
    N_("the owner's"),
    N_("the offers cannot be read"),
    # A run that is being prepared
    N_("Opening the chain and compiling the contracts"),
    N_("Reading the zone's profiles"),
    N_("Reading the zone's grid"),
    N_("Deploying the contracts"),
    N_("Registering homes and members"),
    N_("Paying in the deposits"),
    N_("Handing everything over to the timelock"),
    N_("History: {day} signed, checked, committed"),
    N_("History is in place"),
    # State files
    N_("{file} was written by another version; start the demo again"),
)


def in_words(said: str) -> str:
    """What a program said, in the language of this place; as it came where it is not known."""
    whole = _one(said)
    if whole is not None:
        return whole
    parts = said.split("; ")
    return "; ".join(_one(part) or part for part in parts)


def answer_in_words(body: Any) -> Any:
    """A refusal's JSON, with its words in the language of this place. Codes and fields stay."""
    if not isinstance(body, Mapping):
        return body
    made = dict(body)
    if isinstance(body.get("error"), Mapping):
        made["error"] = _problem(body["error"])
    if isinstance(body.get("problems"), list):
        made["problems"] = [_problem(one) for one in body["problems"]]
    return made


def _problem(one: Any) -> Any:
    if not isinstance(one, Mapping):
        return one
    words = {
        name: in_words(one[name])
        for name in ("problem", "accepted")
        if isinstance(one.get(name), str)
    }
    return {**one, **words}


def _one(said: str) -> str | None:
    found = match(said, SAID)
    if found is None:
        return None
    text, values = found
    return _(text).format(**{name: _value(name, value) for name, value in values.items()})


def match(said: str, texts: tuple[str, ...]) -> tuple[str, dict[str, str]] | None:
    """Which of `texts` it is that was said, and what was filled in; None where it is none."""
    for text, pattern in _patterns(texts):
        found = pattern.fullmatch(said)
        if found is not None:
            return text, found.groupdict()
    return None


def _value(name: str, value: str) -> str:
    if name.startswith("money"):
        return formats().euro(int(value))
    if name == "wh":
        return formats().number(int(value))
    if name == "state":
        return _states().get(value, value)
    return value


def _states() -> dict[str, str]:
    return {
        "pending": _("Opens shortly"),
        "active": _("Open"),
        "canceled": _("Cancelled"),
        "defeated": _("Rejected"),
        "succeeded": _("Accepted"),
        "queued": _("Accepted, waiting for execution"),
        "expired": _("Expired"),
        "executed": _("Executed"),
    }


_KINDS = {
    "money": r"-?\d{1,30}",
    "wh": r"\d{1,30}",
    "number": r"\d{1,80}",
    "decimal": r"\d{1,9}(?:\.\d)?",
    "zone": r"\d{1,6}",
    "day": r"\d{4}-\d{2}-\d{2}",
    "clock": r"\d{2}:\d{2}",
}


@cache
def _patterns(texts: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """The texts with what they look like once filled in, those that say most themselves first."""

    def hole(found: re.Match[str]) -> str:
        name = found[1]
        kind = _KINDS.get(name.partition("_")[0], r"[^;]{1,200}")
        return f"(?P<{name}>{kind})"

    ordered = sorted(texts, key=lambda text: -len(re.sub(r"\{\w+\}", "", text)))
    return [(one, re.compile(re.sub(r"\\{(\w+)\\}", hole, re.escape(one)))) for one in ordered]
