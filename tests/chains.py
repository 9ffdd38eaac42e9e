# SPDX-License-Identifier: Apache-2.0
"""What tests on a real node share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dao.chain import Chain


@contextmanager
def put_back(chain: Chain) -> Iterator[None]:
    """Whatever is done to the chain inside is undone."""
    snapshot = chain.rpc("evm_snapshot")
    yield
    assert chain.rpc("evm_revert", snapshot)
    chain._nonces.clear()  # the accounts' numbers went back with the blocks
