# SPDX-License-Identifier: Apache-2.0
"""What the page of figures shows, from the tables of `dashboard.repositories.analysis`.

Pure: frames for charts and rows of words for tables. Names of figures and what the tables record
in English are said in the words of the dossier's report, which has both languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dao.audit.report.words import LANGUAGES, NONE, Words
from dao.audit.tables import Basis
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.i18n import Formats, _, ngettext
from dashboard.repositories.analysis import Analysis
from dashboard.services.units import wall_clock

if TYPE_CHECKING:
    import pyarrow as pa

FINE_DAYS = 3
"""Up to so many days are drawn by quarter-hour, more by day."""
KEY_FIGURES = (
    "import_wh",
    "export_wh",
    "traded_wh",
    "mean_price",
    "sellers_over_feed_in",
    "buyers_under_retail",
    "clearing_efficiency_ppm",
    "forecast_loss_of_naive_ppm",
)
MAX_ROWS = 25
"""Of a list; a dossier has all of them."""
QUALITIES = ("measured", "estimated", "substituted", "missing", "invalid", "erased")


@cache
def words_of(language: str) -> Words:
    """The report's words; English where there is no report in a language."""
    return Words(language if language in LANGUAGES else "en")


@dataclass(frozen=True)
class FigureLine:
    """A figure in words. change: against the period before, empty where that cannot be told."""

    name: str
    value: str
    before: str
    change: str
    basis: Basis


def figure_lines(one: Analysis, words: Words, names: Sequence[str] = ()) -> list[FigureLine]:
    """All figures, or those of `names` in their order."""
    comparable = is_comparable(one)
    rows = {row["name"]: row for row in one.tables["figures"].to_pylist()}
    found = []
    for name in names or rows:
        row = rows[name]
        value, before, unit = row["value"], row["before"], row["unit"]
        known = comparable and before is not None
        change = words.change(value, before, unit) if known else NONE
        found.append(
            FigureLine(
                words(f"figure.{name}"),
                words.figure(value, unit),
                words.figure(before, unit) if known else "",
                "" if change == NONE else change,
                Basis(row["basis"]),
            )
        )
    return found


def is_comparable(one: Analysis) -> bool:
    """Whether the ledger knows every quarter-hour of this period and of the one before."""
    homes = _ints(one.tables["slots"], "homes")
    return bool((homes > 0).all()) and one.tables["before"]["import_wh"].null_count == 0


def basis_words(basis: Basis) -> str:
    """On whose word a figure rests, as a mark."""
    return {
        Basis.METERED: _("metered"),
        Basis.CHAIN: _("computed"),
        Basis.OPERATOR: _("operator"),
    }[basis]


def basis_meaning(basis: Basis) -> str:
    """The mark explained."""
    return {
        Basis.METERED: _("totals that the meters signed and the ledger holds"),
        Basis.CHAIN: _("follows from what is on the chain; anybody can compute it again"),
        Basis.OPERATOR: _("the operator says so; checked for consistency only"),
    }[basis]


# Energy and prices


def is_fine(one: Analysis) -> bool:
    """Whether charts show quarter-hours rather than days."""
    return one.period.slots <= FINE_DAYS * SLOTS_PER_DAY


@dataclass(frozen=True)
class Balance:
    """frame: time, and in kWh traded, beside (used by neighbours without a trade), grid_in,
    grid_out; NaN where the ledger has nothing. Counts are of quarter-hours."""

    frame: pd.DataFrame
    unknown: int
    unsettled: int

    @property
    def is_empty(self) -> bool:
        return not bool(self.frame["grid_in"].notna().any())


def balance(one: Analysis) -> Balance:
    """The zone's energy by quarter-hour or by day."""
    table = one.tables["slots"]
    known = _ints(table, "homes") > 0
    traded, residual = _ints(table, "traded_wh"), _ints(table, "residual_wh")
    unsettled = np.asarray(table["traded_wh"].is_null()) & known
    within = _ints(table, "import_wh") - _ints(table, "grid_in_wh")
    # More than neighbours drew was paid for where the residual is below zero.
    used = np.where(unsettled, 0, traded + residual)
    values = {
        "traded": used,
        "beside": within - used,
        "grid_in": _ints(table, "grid_in_wh"),
        "grid_out": _ints(table, "grid_out_wh"),
    }
    frame = _by_time(one, _ints(table, "slot"), values, known)
    return Balance(frame, int((~known).sum()), int(unsettled.sum()))


def _by_time(
    one: Analysis, slots: np.ndarray, values: Mapping[str, np.ndarray], known: np.ndarray
) -> pd.DataFrame:
    """Wh as kWh by quarter-hour, or summed by UTC day."""
    frame = pd.DataFrame({name: np.where(known, it, 0) for name, it in values.items()})
    if is_fine(one):
        frame = frame.astype(float).where(pd.Series(known), np.nan) / 1_000
        frame.insert(0, "time", wall_clock(slots))
        return frame
    days = pd.Series(slots // SLOTS_PER_DAY)
    some = pd.Series(known).groupby(days).any().to_numpy()
    sums = frame.groupby(days).sum()
    made = sums.astype(float).where(pd.Series(some, index=sums.index), np.nan) / 1_000
    made.insert(0, "time", pd.to_datetime(sums.index.to_numpy() * 86_400, unit="s"))
    return made.reset_index(drop=True)


def prices(one: Analysis) -> pd.DataFrame:
    """time, price_ct (NaN without trade; by day the mean over the energy), volume_kwh."""
    table = one.tables["prices"]
    slots, volume = _ints(table, "slot"), _ints(table, "volume_wh")
    priced = ~np.asarray(table["price"].is_null())
    price = _ints(table, "price")
    if is_fine(one):
        return pd.DataFrame(
            {
                "time": wall_clock(slots),
                "price_ct": np.where(priced, price / 10, np.nan),
                "volume_kwh": volume / 1_000,
            }
        )
    frame = pd.DataFrame({"day": slots // SLOTS_PER_DAY, "wh": volume, "money": volume * price})
    sums = frame.groupby("day").sum()
    wh = sums["wh"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(wh > 0, sums["money"].to_numpy(dtype=float) / wh / 10, np.nan)
    return pd.DataFrame(
        {
            "time": pd.to_datetime(sums.index.to_numpy() * 86_400, unit="s"),
            "price_ct": mean,
            "volume_kwh": wh / 1_000,
        }
    )


def clearing_rows(one: Analysis, words: Words) -> list[tuple[str, str, bool | None]]:
    """How well the auctions did: name, value, and whether that is as it has to be, if it has to be
    anything."""
    table = one.tables["clearing"]
    there = table.select(["price", "replayed_price"]).to_pylist()
    differ = sum(row["price"] != row["replayed_price"] for row in there)
    rows: list[tuple[str, str, bool | None]] = [
        (words("clearing.slots"), words.integer(len(there)), None),
        (words("clearing.differ"), words.integer(differ), differ == 0),
    ]
    figures = {row["name"]: row for row in one.tables["figures"].to_pylist()}
    for name in (
        "clearing_efficiency_ppm",
        "clearing_unbalanced_wh",
        "clearing_irrational",
        "clearing_envious",
        "sessions_not_conserved",
    ):
        row = figures[name]
        sound = None if name == "clearing_efficiency_ppm" else not row["value"]
        rows.append((words(f"figure.{name}"), words.figure(row["value"], row["unit"]), sound))
    return rows


# Meters, and what went wrong


def quality_frame(one: Analysis, fmt: Formats) -> pd.DataFrame:
    """Readings by day and quality, in words; a day of which something is kept back says so."""
    table = one.tables["quality"]
    frame = pd.DataFrame({name: table[name].to_pylist() for name in ("slot", *QUALITIES)})
    rows = []
    for day, part in frame.groupby(frame["slot"] // SLOTS_PER_DAY):
        cells: dict[str, str] = {_("Day (UTC)"): fmt.day(_moment(int(day)))}
        for name in QUALITIES:
            known = part[name].notna().all()
            cells[quality_words(name)] = (
                fmt.number(int(part[name].sum())) if known else _("kept back")
            )
        rows.append(cells)
    return pd.DataFrame(rows)


def quality_words(name: str) -> str:
    """A quality as a column's head."""
    return {
        "measured": _("Measured"),
        "estimated": _("Estimated"),
        "substituted": _("Substituted"),
        "missing": _("Missing"),
        "invalid": _("Refused"),
        "erased": _("Erased"),
    }[name]


def anomaly_frame(one: Analysis, words: Words, fmt: Formats) -> pd.DataFrame:
    """The newest records of what went wrong, in words."""
    rows = one.tables["anomalies"].to_pylist()
    newest = sorted(rows, key=lambda row: row["at"], reverse=True)[:MAX_ROWS]
    return pd.DataFrame(
        [
            {
                _("When"): fmt.moment(row["at"]),
                _("What"): words.recorded(row["kind"]),
                _("Where"): words.recorded(row["subject"]),
                _("Detail"): words.recorded(row["detail"]),
                _("What the rules did"): words.recorded(row["treatment"]),
            }
            for row in newest
        ]
    )


# Money


def payment_frame(one: Analysis, words: Words, fmt: Formats) -> pd.DataFrame:
    """The newest payments from the treasury, in words."""
    rows = one.tables["payments"].to_pylist()
    newest = sorted(rows, key=lambda row: row["number"], reverse=True)[:MAX_ROWS]
    return pd.DataFrame(
        [
            {
                _("When"): fmt.moment(row["paid_at"]),
                _("Purpose"): row["name"],
                _("What for"): row["reference"],
                _("Paid to"): short(row["payee"]),
                _("Kind"): words.recorded(row["kind"]),
                _("For : against"): _votes(row),
                _("Amount"): fmt.euro(row["amount"]),
            }
            for row in newest
        ]
    )


def _votes(row: Mapping[str, Any]) -> str:
    if row["votes_for"] is None:
        return NONE
    return f"{row['votes_for']} : {row['votes_against']}"


def short(address: str) -> str:
    """An address or a hash, cut in the middle."""
    return address if len(address) <= 14 else f"{address[:8]}…{address[-4:]}"


@dataclass(frozen=True)
class Groups:
    """Who gains. frame: one row for each group, in words, summed over the days shown. hidden: days
    that are kept back; days: those that are shown."""

    frame: pd.DataFrame
    days: int
    hidden: int


def groups(one: Analysis, words: Words, fmt: Formats) -> Groups:
    """Homes with solar and without, over the days whose groups may be shown."""
    table = one.tables["groups"]
    rows = table.to_pylist()
    hidden = {row["day"] for row in rows if row["homes"] is None}
    shown = [row for row in rows if row["homes"] is not None]
    made = []
    for name in dict.fromkeys(row["group"] for row in shown):
        part = [row for row in shown if row["group"] == name]
        homes = [row["homes"] for row in part]
        home_days = sum(homes)

        def total(column: str, part: list[dict[str, Any]] = part) -> int:
            return sum(row[column] for row in part)

        def mean(column: str, part: list[dict[str, Any]] = part, over: int = home_days) -> str:
            per = sum(row[column] for row in part) / over / 10_000
            return _("{number} ct").format(number=fmt.number(per, 1)).replace(" ", "\u00a0")

        least, most = min(homes), max(homes)
        made.append(
            {
                _("Group"): words.recorded(name),
                _("Homes"): fmt.number(most)
                if least == most
                else f"{fmt.number(least)}–{fmt.number(most)}",
                _("Drawn"): words.wh(total("import_wh")),
                _("Fed in"): words.wh(total("export_wh")),
                _("Sold"): words.wh(total("sold_wh")),
                _("Bought"): words.wh(total("bought_wh")),
                _("Gain by selling, per home and day"): mean("gain"),
                _("Saving by buying, per home and day"): mean("saving"),
            }
        )
    days = {row["day"] for row in shown}
    return Groups(pd.DataFrame(made), len(days), len(hidden))


def days_words(count: int) -> str:
    """A number of days."""
    return ngettext("{number} day", "{number} days", count).format(number=count)


def _moment(day: int) -> Any:
    return pd.Timestamp(day * SLOTS_PER_DAY * SLOT_SECONDS, unit="s").to_pydatetime()


def _ints(table: pa.Table, column: str) -> np.ndarray:
    """A column of whole numbers; 0 where nothing is known."""
    return np.asarray(table[column].combine_chunks().fill_null(0)).astype(np.int64)
