# SPDX-License-Identifier: Apache-2.0
"""Prices, and what trade has brought so far against the two tariffs."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dao.runstate import Money
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.tariffs import Tariffs
from dashboard.i18n import _, formats
from dashboard.repositories.events import Settled
from dashboard.services.units import wall_clock

SLOTS_SHOWN = 2 * SLOTS_PER_DAY
ROWS_SHOWN = 7


@dataclass(frozen=True)
class PriceView:
    """The last two days of clearings.

    frame: time (local wall clock), price_ct (NaN without trade), volume_kwh. table: the newest
    slots in words. mean_ct: mean price, weighted with the energy, None without trade.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    mean_ct: float | None
    traded_slots: int

    @property
    def is_empty(self) -> bool:
        return self.frame.empty


def price_view(clearings: pd.DataFrame, settlements: pd.DataFrame) -> PriceView:
    """From clearings (slot, price, volume_wh) and settlements (slot, delivered_wh)."""
    if clearings.empty:
        empty = pd.DataFrame()
        return PriceView(frame=empty, table=empty, mean_ct=None, traded_slots=0)
    last = int(clearings["slot"].max())
    shown = clearings[clearings["slot"] > last - SLOTS_SHOWN].reset_index(drop=True)
    price = shown["price"].astype("Float64").to_numpy(dtype=float, na_value=float("nan"))
    frame = pd.DataFrame(
        {
            "time": wall_clock(shown["slot"]),
            "price_ct": price / 10,
            "volume_kwh": shown["volume_wh"] / 1000,
        }
    )
    traded = shown[shown["volume_wh"] > 0]
    energy = int(traded["volume_wh"].sum())
    mean = int((traded["price"] * traded["volume_wh"]).sum()) / energy / 10 if energy else None
    return PriceView(
        frame=frame,
        table=_table(traded, settlements),
        mean_ct=mean,
        traded_slots=len(traded),
    )


def _table(traded: pd.DataFrame, settlements: pd.DataFrame) -> pd.DataFrame:
    """The newest traded slots: When, Price, Agreed, Delivered."""
    delivered = dict(zip(settlements["slot"], settlements["delivered_wh"], strict=True))
    rows, fmt = [], formats()
    for row in traded.sort_values("slot", ascending=False).head(ROWS_SHOWN).itertuples():
        known = delivered.get(row.slot)
        rows.append(
            {
                _("When"): fmt.weekday(int(row.slot) * SLOT_SECONDS),
                _("Price"): fmt.ct(int(row.price)),
                _("Agreed"): fmt.kwh(int(row.volume_wh)),
                _("Delivered"): _("not yet settled") if known is None else fmt.kwh(int(known)),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Balance:
    """What trade brought so far, µ€ and Wh. `turnover` is what sellers were paid; `traded_slots`
    counts the settled slots in which something was delivered."""

    traded_wh: int
    turnover: int
    seller_gain: int
    buyer_saving: int
    grid_fees: int
    penalties: int
    traded_slots: int


def balance(settled: Settled, tariffs: Tariffs, counted: Money | None = None) -> Balance:
    """Sums over all settled slots.

    A seller gains the price less the feed-in tariff; a buyer saves the retail tariff less price
    and grid fee. Where the run itself has counted (`counted`), its figures hold: it also knows
    which energy the buyers' meters really took.
    """
    traded, fees = settled.delivered_wh, settled.fees
    gain = settled.turnover - traded * tariffs.feed_in
    saving = traded * tariffs.retail - settled.turnover - fees
    if counted is not None:
        traded, fees = counted.traded_wh, counted.grid_fees
        gain, saving = counted.seller_gain, counted.buyer_saving
    return Balance(
        traded_wh=traded,
        turnover=settled.turnover,
        seller_gain=gain,
        buyer_saving=saving,
        grid_fees=fees,
        penalties=settled.penalties,
        traded_slots=settled.traded_slots,
    )
