# SPDX-License-Identifier: Apache-2.0
"""The tariffs that trade is compared with: what the supplier pays and charges without a market.

Fixed for a run, taken from a TOML file where the operator has one:

    feed_in = 79        # µ€ per Wh, the same number as €/MWh
    retail = 397
    grid_fee = 110

Defaults are Germany's of 2025, rounded to whole µ€/Wh:

- feed-in: 7.86 ct/kWh, surplus of roofs up to 10 kWp commissioned August 2025 to January 2026
  (EEG 2023 § 48, published by the Bundesnetzagentur);
- retail: 39.7 ct/kWh, mean of a household of 3,500 kWh a year (BDEW-Strompreisanalyse 2025);
- grid fee: 10.95 ct/kWh, network charges with metering in that same price (same source).

What the default leaves out, and docs/market.md says so: of the retail price another 12.65 ct/kWh
are taxes and levies. Where a community owes those on traded energy too, its grid fee is 236.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from dao.errors import BadUse

HIGHEST_PRICE = 5_000


@dataclass(frozen=True)
class Tariffs:
    """Prices in µ€ per Wh."""

    feed_in: int = 79
    retail: int = 397
    grid_fee: int = 110

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise BadUse(f"tariff {name} must be a whole number of µ€ per Wh, not {value!r}")
            if not 0 <= value <= HIGHEST_PRICE:
                raise BadUse(f"tariff {name} is {value}; expected 0..{HIGHEST_PRICE} µ€ per Wh")
        if self.feed_in + self.grid_fee >= self.retail:
            raise BadUse(
                f"nothing can be gained by trade: feed-in {self.feed_in} plus grid fee "
                f"{self.grid_fee} is not below retail {self.retail} µ€ per Wh"
            )


def load_tariffs(path: Path | None) -> Tariffs:
    """The tariffs of a TOML file, the defaults where `path` is None. BadUse says what is wrong."""
    if path is None:
        return Tariffs()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadUse(f"cannot read tariffs from {path}: {reason}") from None
    unknown = sorted(set(values) - set(asdict(Tariffs())))
    if unknown:
        raise BadUse(f"{path}: unknown tariff {unknown[0]!r}; expected feed_in, retail, grid_fee")
    return Tariffs(**values)
