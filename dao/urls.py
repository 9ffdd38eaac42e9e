# SPDX-License-Identifier: Apache-2.0
"""Addresses that people name: whether one can be asked at all. Who asks says what was wrong."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_web_address(url: str) -> bool:
    """Whether it is the address of a service that is asked over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
