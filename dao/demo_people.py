# SPDX-License-Identifier: Apache-2.0
"""The keys of the demo's residents, which follow from the run's seed and their metering point.

Derived in the open, which is right for play money on a local chain and for nothing else.
"""

from __future__ import annotations

from functools import lru_cache

from dao.chain import LocalAccount
from dao.eip712 import keccak


@lru_cache(maxsize=2_048)
def owner_account(seed: int, meter: int) -> LocalAccount:
    """The key pair of a metering point's owner."""
    return LocalAccount.from_key(keccak(f"gridcommons demo resident {seed} {meter}".encode()))
