# SPDX-License-Identifier: Apache-2.0
"""Packing, commitment and scoring of day forecasts, as `ForecastRegistry` defines them.

The quantiles come from `forecasting`; here they are only numbers of one zone's day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dao.eip712 import address_word, keccak, word
from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY

_INT32 = 1 << 32
_LANE = 96
QUANTILES = (100, 500, 900)
"""The forecast's quantiles in permille."""


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
