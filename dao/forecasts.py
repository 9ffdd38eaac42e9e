# SPDX-License-Identifier: Apache-2.0
"""Packing, commitment and scoring of day forecasts, as `ForecastRegistry` defines them; what a
score costs or earns; and a forecaster's standing and the disputes about it, read from the chain.

The quantiles come from `forecasting`; here they are only numbers of one zone's day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dao.chain import Contract
from dao.eip712 import address_word, keccak, word
from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY

_INT32 = 1 << 32
_LANE = 96
QUANTILES = (100, 500, 900)
"""The forecast's quantiles in permille."""

WITHDRAWAL_DELAY = 17 * 86_400
"""Seconds from the announcement of a withdrawal to the bond's leaving."""
DISPUTE_PERIOD = 14 * 86_400
"""Seconds after a day's end in which a member may dispute its forecast."""
DISPUTE_LAPSE = 30 * 86_400
"""Seconds after which a dispute that nobody decided can be closed."""
BEST_SKILL = 1_000
"""Skill in permille of who is never wrong."""

_DISPUTE_STATES = ("open", "decided", "lapsed")


@dataclass(frozen=True)
class Standing:
    """What a forecaster has earned in a zone, now. Money in token units."""

    skill: int
    """Permille better than the naive forecast over the last 28 days; negative where worse."""
    days_scored: int
    bond: int
    leaving: int
    """How much of the bond is announced to leave; it backs nothing."""
    unlocked_at: int
    """Unix seconds from which it may; 0 where nothing was announced."""
    open_disputes: int
    """While there is one, no bond leaves."""
    in_good_standing: bool
    allowance: int
    """Balancing proposals in this UTC day."""
    used: int
    """How many of them were made."""


@dataclass(frozen=True)
class Dispute:
    """A member's complaint about a forecast, and how it was decided. Times in unix seconds."""

    id: int
    forecaster: str
    zone: int
    first_slot: int
    complainant: str
    opened_at: int
    state: str
    """`open`, `decided` or `lapsed`."""
    liable: str | None
    """Once decided: who is, None where nobody is."""
    amount: int
    """For how many token units; of a forecaster's only what its bond held was taken."""


def pack_quantiles(q10: npt.ArrayLike, q50: npt.ArrayLike, q90: npt.ArrayLike) -> list[int]:
    """96 slots of net-energy quantiles in Wh as 48 words; BadUse unless int32 and monotone."""
    table = np.stack([np.asarray(q, dtype=np.int64) for q in (q10, q50, q90)])
    if table.shape != (3, SLOTS_PER_DAY):
        raise BadUse(f"a forecast has three quantiles of {SLOTS_PER_DAY} slots, not {table.shape}")
    if (table < -(2**31)).any() or (table >= 2**31).any():
        raise BadUse("a quantile must fit 32 bits: -2^31..2^31-1 Wh")
    if (np.diff(table, axis=0) < 0).any():
        raise BadUse("quantiles must not fall: q10 <= q50 <= q90 in every slot")
    words = []
    for slot in range(0, SLOTS_PER_DAY, 2):
        packed = 0
        for lane in range(2):
            for i in range(3):
                value = int(table[i, slot + lane]) & (_INT32 - 1)
                packed |= value << (_LANE * lane + 32 * i)
        words.append(packed)
    return words


def unpack_quantiles(words: Sequence[int]) -> np.ndarray:
    """Inverse of `pack_quantiles`: shape (3, 96), int64 Wh, rows q10, q50, q90."""
    table = np.empty((3, SLOTS_PER_DAY), dtype=np.int64)
    for slot in range(SLOTS_PER_DAY):
        for i in range(3):
            value = (words[slot // 2] >> (_LANE * (slot % 2) + 32 * i)) & (_INT32 - 1)
            table[i, slot] = value - _INT32 if value >> 31 else value
    return table


def commitment(
    zone: int,
    first_slot: int,
    forecaster: str,
    words: Sequence[int],
    evidence_hash: bytes,
    salt: bytes,
) -> bytes:
    """What is committed before the deadline: binds day, forecaster, quantiles and evidence."""
    forecast_hash = keccak(b"".join(word(w) for w in words))
    return keccak(
        word(zone)
        + word(first_slot)
        + address_word(forecaster)
        + forecast_hash
        + evidence_hash
        + salt
    )


def pinball_loss(quantiles: npt.ArrayLike, net_wh: npt.ArrayLike) -> int:
    """Sum over slots and the three quantiles, in permille * Wh, as the contract sums it.

    quantiles: (3, n) Wh; net_wh: (n,) Wh. Source: Koenker and Bassett, Regression Quantiles,
    Econometrica 46 (1978), the tilted absolute value.
    """
    table = np.asarray(quantiles, dtype=np.int64)
    actual = np.asarray(net_wh, dtype=np.int64)
    loss = 0
    for tau, q in zip(QUANTILES, table, strict=True):
        over = actual - q
        loss += int(np.where(over >= 0, tau * over, (tau - 1000) * over).sum())
    return loss


def slash_of(loss: int, naive_loss: int, max_slash: int, bond: int) -> int:
    """What a day worse than the naive forecast takes from the bond, in token units.

    max_slash: the rule as it stood at the commitment. 0 where the day is no worse.
    """
    if loss <= naive_loss:
        return 0
    if loss >= 2 * naive_loss:
        return min(max_slash, bond)
    return min(max_slash * (loss - naive_loss) // naive_loss, bond)


def reward_of(loss: int, naive_loss: int, max_reward: int, pool: int) -> int:
    """What a day better than the naive forecast earns out of the pool, in token units.

    max_reward: the rule as it stood at the commitment. 0 where the day is no better.
    """
    if loss >= naive_loss:
        return 0
    return min(max_reward * (naive_loss - loss) // naive_loss, pool)


def allowance_of(skill: int, skill_threshold: int, max_allowance: int) -> int:
    """Balancing proposals a zone and day after probation, by skill and threshold in permille."""
    if skill < skill_threshold or max_allowance == 0:
        return 0
    if skill_threshold >= BEST_SKILL:
        return max_allowance
    return 1 + (max_allowance - 1) * (skill - skill_threshold) // (BEST_SKILL - skill_threshold)


def standing_of(registry: Contract, forecaster: str, zone: int) -> Standing:
    """The forecaster's record in the zone as the chain has it now."""
    skill, days_scored = registry.call("skill", forecaster, zone)
    bond, leaving, unlocked_at = registry.call("bond_of", forecaster)
    allowance, used = registry.call("allowance", forecaster, zone)
    return Standing(
        skill=int(skill),
        days_scored=int(days_scored),
        bond=int(bond),
        leaving=int(leaving),
        unlocked_at=int(unlocked_at),
        open_disputes=int(registry.call("open_disputes", forecaster)),
        in_good_standing=bool(registry.call("in_good_standing", forecaster, zone)),
        allowance=int(allowance),
        used=int(used),
    )


def dispute_of(registry: Contract, dispute_id: int) -> Dispute:
    """One dispute by its number, from 1; BadUse where there is none of that number."""
    count = int(registry.call("dispute_count"))
    if not 1 <= dispute_id <= count:
        raise BadUse(f"there is no dispute {dispute_id}; there are {count}, numbered from 1")
    record = registry.call("dispute_of", dispute_id)
    liable = str(record["liable"])
    return Dispute(
        id=dispute_id,
        forecaster=str(record["forecaster"]),
        zone=int(record["zone"]),
        first_slot=int(record["first_slot"]),
        complainant=str(record["complainant"]),
        opened_at=int(record["opened_at"]),
        state=_DISPUTE_STATES[int(record["status"]) - 1],
        liable=liable if int(liable, 16) else None,
        amount=int(record["amount"]),
    )


def disputes(registry: Contract) -> list[Dispute]:
    """All disputes, the oldest first."""
    count = int(registry.call("dispute_count"))
    return [dispute_of(registry, dispute_id) for dispute_id in range(1, count + 1)]
