# SPDX-License-Identifier: Apache-2.0
"""What stands about a home's offers: the agent's store and key, the relay's word, its readings.

Whoever asks has made sure that the home is the visitor's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from dao.errors import CheckFailed
from dao.market.account import Mandate
from dao.market.orders import ASK, BID
from dao.paths import inbox_path, lake_dir
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.tariffs import Tariffs
from dashboard.repositories.cache import cached
from dashboard.repositories.events import ChainEvents
from dashboard.repositories.relay import RelayClient as PublicRelay
from dashboard.repositories.relay import sessions_of
from dashboard.services.standing import DAYS_SHOWN, PastWeek, past_week, suits
from dashboard.settings import Settings
from forecasting.agent.keys import AgentKeys
from forecasting.agent.offers import StandingOffer, side_name
from forecasting.agent.plan import Means, Terms
from forecasting.agent.recent import LOOK_BACK_DAYS, OLDEST_SLOTS, HomeReadings
from forecasting.agent.relaying import Away, RelayClient, SentMandate
from forecasting.agent.store import Deed, HeldOffer, OfferStore
from meters.readings import Reading

DEEDS = 50
_SLOTS = (DAYS_SHOWN + LOOK_BACK_DAYS + 1) * SLOTS_PER_DAY + OLDEST_SLOTS


@dataclass(frozen=True)
class Home:
    """A home's standing offers and all that they hang on.

    agent: the address that mandates go to; offers: the newest of each side, withdrawn ones too;
    history: all versions; sent: mandates that the relay carried; sessions: to order for.
    """

    account: int
    agent: str
    offers: tuple[HeldOffer, ...]
    history: tuple[HeldOffer, ...]
    next_version: dict[int, int]
    deeds: tuple[Deed, ...]
    sessions: tuple[Terms, ...]
    sent: tuple[SentMandate, ...]
    relay: RelayClient
    _means: dict[int, Means] = field(default_factory=dict)

    def means_of(self, mandate: int) -> Means:
        """A mandate as it stood on the chain when it was first asked for here."""
        if mandate not in self._means:
            self._means[mandate] = self.relay.means(self.account, mandate)
        return self._means[mandate]

    def mandate_for(self, wanted: Mandate) -> tuple[int, bool, bool]:
        """The number of a mandate that allows just what is wanted; whether it is in force, or else
        signed and on its way. Where there is none: the number that the next one gets."""
        mine = [
            one
            for one in self.sent
            if one.agent.lower() == wanted.agent.lower() and one.side == side_name(wanted.side)
        ]
        numbers = [one.number for one in mine]
        numbers += [one.offer.mandate for one in self.offers if one.offer.side == wanted.side]
        for number in dict.fromkeys(numbers):
            held = self.means_of(number).mandate
            if held is not None and suits(held, wanted):
                return number, True, False
        for one in mine:
            if not one.done and one.terms is not None and suits(one.terms, wanted):
                return one.number, False, True
        return self.relay.next_mandate(self.account, wanted), False, False


def home_of(settings: Settings, account: int, zone: int, now: int) -> Home:
    """All about a home's offers. now: chain time, unix seconds. Away where the relay does not
    answer."""
    if settings.relay is None:
        raise Away("no relay is known")
    relay = RelayClient(settings.relay)
    path = settings.home / "offers.sqlite"
    with OfferStore(path) as store:
        history = store.history(account)
        newest = {one.offer.side: one for one in reversed(history)}
        return Home(
            account=account,
            agent=AgentKeys(settings.home / "agent-keys").address(account),
            offers=tuple(newest[side] for side in sorted(newest, reverse=True)),
            history=tuple(history),
            next_version={side: store.next_version(account, side) for side in (ASK, BID)},
            deeds=tuple(store.deeds(account, DEEDS)),
            sessions=_sessions(settings.relay, zone, now),
            sent=tuple(relay.mandates_sent(account)),
            relay=relay,
        )


def _sessions(url: str, zone: int, now: int) -> tuple[Terms, ...]:
    """The sessions to order for, the next gate first, as the agent's planning takes them."""
    try:
        found = sessions_of(PublicRelay(url), zone, now).sessions
    except CheckFailed as error:
        raise Away(str(error)) from error
    names = [one.name for one in fields(Terms)]
    return tuple(
        Terms(**{name: getattr(one, name) for name in names})
        for one in sorted(found, key=lambda one: one.gate)
    )


def week_of(
    settings: Settings,
    offer: StandingOffer,
    zone: int,
    now: int,
    index: Path,
    terms: Terms,
    tariffs: Tariffs,
) -> PastWeek:
    """What an offer would have done over the last week. now: chain time, unix seconds."""
    return _week(offer, zone, now // 3_600, index, terms, tariffs)


@cached(ttl=60, max_entries=128)
def _week(
    offer: StandingOffer,
    zone: int,
    hour: int,
    index: Path,
    terms: Terms,
    tariffs: Tariffs,
) -> PastWeek:
    rows = _readings(offer.account, zone, hour)
    first = hour * 3_600 // SLOT_SECONDS - (DAYS_SHOWN + 3) * SLOTS_PER_DAY
    prices = {
        int(one.slot): None if one.price is pd.NA else int(one.price)
        for one in ChainEvents(index, zone).clearings().itertuples()
        if one.slot >= first
    }
    return past_week(offer, rows, prices, terms, tariffs)


# By the hour, and not by the inbox, which changes with every reading of anybody: a page that is
# drawn again and again must not read the lake each time.
@cached(ttl=60, max_entries=256)
def _readings(account: int, zone: int, hour: int) -> Sequence[Reading]:
    home = HomeReadings(lake_dir(), zone, inbox_path())
    end = (hour + 1) * 3_600 // SLOT_SECONDS
    return home.rows(account, end - _SLOTS, _SLOTS)
