# SPDX-License-Identifier: Apache-2.0
"""What the test app asks a wallet for, and the tests compare with."""

from __future__ import annotations

from typing import Any

TO = "0x00000000000000000000000000000000000000AA"


def document(wh: int) -> dict[str, Any]:
    """An order as typed data."""
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Order": [{"name": "wh", "type": "uint256"}, {"name": "salt", "type": "uint256"}],
        },
        "primaryType": "Order",
        "domain": {"name": "Test", "version": "1", "chainId": 31337},
        # Larger than JavaScript's integers: it must reach the wallet exactly.
        "message": {"wh": wh, "salt": 2**255 + wh},
    }
