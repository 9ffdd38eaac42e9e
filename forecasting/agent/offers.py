# SPDX-License-Identifier: Apache-2.0
"""A standing offer: what its owner signs, its EIP-712 document, and what is wrong with one.

Storing offers is `store`'s business, following them `follow`'s. An offer gives no right to
anything: the mandate on chain does. It says what the owner wants done inside that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from dao import eip712
from dao.eip712 import keccak, word
from dao.errors import BadUse
from dao.market.account import DAY_SECONDS, MAX_DAY
from dao.market.orders import ASK, BID, MAX_LIMIT
from dao.relay.submitted import SIDE_NAMES, shown
from dao.relay.typed_data import Domain, document
from dao.slots import SLOT_SECONDS

DOMAIN_NAME = "GridCommons Agent"
DOMAIN_VERSION = "1"
OFFER_TYPE = (
    "StandingOffer(uint32 account,uint8 side,uint32 version,bool withdrawn,uint32 mandate,"
    "uint16 limit,uint32 dailyWh,uint32 hours,uint8 weekdays,uint16 caution,uint40 validUntil,"
    "string timezone)"
)
_TYPEHASH = keccak(OFFER_TYPE.encode("ascii"))

ALL_HOURS = (1 << 24) - 1
ALL_WEEKDAYS = (1 << 7) - 1
MOST_DAILY_WH = 1_000_000_000

CAUTION = {
    ASK: {"safe": 0, "normal": 300, "bold": 500},
    BID: {"safe": 0, "normal": 200, "bold": 500},
}
"""Names that people choose from, by side: the quantile of the recent days, in permille, that is
offered or asked for. 0 is what every one of them reached, 500 what every other one did."""

_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,32}){0,2}", re.ASCII)
_WHOLE = {
    "account": (1, 2**32 - 1),
    "side": (BID, ASK),
    "version": (1, 2**32 - 1),
    "mandate": (1, 2**32 - 1),
    "limit": (0, MAX_LIMIT),
    "daily_wh": (0, MOST_DAILY_WH),
    "hours": (1, ALL_HOURS),
    "weekdays": (1, ALL_WEEKDAYS),
    "caution": (0, 1_000),
    "valid_until": (1, MAX_DAY * DAY_SECONDS),
}
# As they are spelt in the signed document.
_SIGNED_AS = {"daily_wh": "dailyWh", "valid_until": "validUntil"}


@dataclass(frozen=True)
class StandingOffer:
    """To sell what is left over, or to buy what is needed, session after session.

    side: ASK or BID; version: 1, 2, 3 ... of this account and side, the newest holds; withdrawn:
    the owner takes back what was offered; mandate: the number of the one it is followed under;
    limit: µ€/Wh, the least to sell for or the most to pay, grid fee included; daily_wh: Wh of a
    local day, kept back from what would be sold, or the most that is bought; hours, weekdays:
    bitmaps, bit 0 the hour from midnight, and Monday; caution: permille, see CAUTION; valid_until:
    unix seconds, no slot that ends later is ordered; timezone: whose hours and days are meant.
    """

    account: int
    side: int
    version: int
    withdrawn: bool
    mandate: int
    limit: int
    daily_wh: int
    hours: int
    weekdays: int
    caution: int
    valid_until: int
    timezone: str

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise BadUse(f"offer: {_spelt(name)}: {shown(value)} is not a whole number")
            if not lowest <= value <= highest:
                raise BadUse(
                    f"offer: {_spelt(name)}: {shown(value)} is out of range; "
                    f"accepted: {lowest}..{highest}"
                )
        if not isinstance(self.withdrawn, bool):
            raise BadUse(f"offer: withdrawn: {shown(self.withdrawn)} is not true or false")
        zone_named(self.timezone)

    @property
    def clock(self) -> ZoneInfo:
        """The time zone whose hours and days are meant."""
        return zone_named(self.timezone)

    def covers(self, slot: int) -> bool:
        """Whether the hours, weekdays and expiry leave room for a slot."""
        if (slot + 1) * SLOT_SECONDS > self.valid_until:
            return False
        begins = self.local(slot)
        return bool(self.hours >> begins.hour & 1 and self.weekdays >> begins.weekday() & 1)

    def local(self, slot: int) -> datetime:
        """The start of a slot on the offer's clock."""
        return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC).astimezone(self.clock)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as they are kept."""
        return asdict(self)


def zone_named(name: str) -> ZoneInfo:
    """A time zone. BadUse for a name that is none."""
    if isinstance(name, str) and _ZONE_NAME.fullmatch(name):
        # ZoneInfo keeps what it has read.
        with suppress(OSError, ValueError, KeyError):
            return ZoneInfo(name)
    raise BadUse(f"offer: timezone: {shown(name)} is none; accepted: a name like Europe/Berlin")


def offer_digest(chain_id: int, market: str, offer: StandingOffer) -> bytes:
    """What the owner signs, 32 bytes. market: address of the EnergyMarket."""
    separator = eip712.domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, market)
    values = (
        offer.account,
        offer.side,
        offer.version,
        int(offer.withdrawn),
        offer.mandate,
        offer.limit,
        offer.daily_wh,
        offer.hours,
        offer.weekdays,
        offer.caution,
        offer.valid_until,
    )
    named = keccak(offer.timezone.encode("utf-8"))
    return eip712.digest(separator, keccak(_TYPEHASH + b"".join(map(word, values)) + named))


def typed_data(chain_id: int, market: str, offer: StandingOffer) -> dict[str, Any]:
    """The offer as `eth_signTypedData_v4` takes it."""
    message = {_spelt(name): value for name, value in offer.as_dict().items()}
    return document(OFFER_TYPE, Domain(DOMAIN_NAME, DOMAIN_VERSION, chain_id, market), message)


def from_typed_data(chain_id: int, market: str, given: Any) -> StandingOffer:
    """The offer in a document that a wallet signed. BadUse, with the place, for any other
    document than the one that `typed_data` makes of that offer."""
    if not isinstance(given, Mapping):
        raise BadUse("document: not an object; accepted: the EIP-712 document of a standing offer")
    message = given.get("message")
    names = {_spelt(field.name): field.name for field in fields(StandingOffer)}
    if not isinstance(message, Mapping) or set(message) != set(names):
        raise BadUse(f"document: message: expected exactly {', '.join(names)}")
    offer = StandingOffer(**{names[spelt]: value for spelt, value in message.items()})
    expected = typed_data(chain_id, market, offer)
    if set(given) != set(expected):
        raise BadUse(f"document: expected exactly {', '.join(expected)}")
    for part in ("domain", "primaryType", "types"):
        # Compared as text would be: 1 is not True, and no number stands for another kind.
        if repr(_sorted(given[part])) != repr(_sorted(expected[part])):
            raise BadUse(f"document: {part}: not that of a standing offer on this chain and market")
    return offer


def hours_between(begin: int, end: int) -> int:
    """The bitmap of the hours from one to another, over midnight where the end comes first; the
    whole day where both are the same."""
    count = (end - begin) % 24 or 24
    return sum(1 << (begin + i) % 24 for i in range(count))


def hour_spans(hours: int) -> list[tuple[int, int]]:
    """The runs of hours in a bitmap, each as its first hour and the one after its last, 24 for
    midnight; a run over midnight is one."""
    if hours == ALL_HOURS:
        return [(0, 24)]
    begins = [h for h in range(24) if hours >> h & 1 and not hours >> (h - 1) % 24 & 1]
    spans = []
    for begin in begins:
        end = begin
        while hours >> end % 24 & 1:
            end += 1
        spans.append((begin, end if end <= 24 else end - 24))
    return spans


def side_name(side: int) -> str:
    """`bid` or `ask`."""
    return SIDE_NAMES[side]


def _spelt(name: str) -> str:
    return _SIGNED_AS.get(name, name)


def _sorted(value: Any) -> Any:
    """A JSON value whose objects no longer differ by the order of their names; addresses are
    compared without their checksum."""
    if isinstance(value, Mapping):
        return sorted((str(name), _sorted(one)) for name, one in value.items())
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{40}", value):
        return value.lower()
    return value
