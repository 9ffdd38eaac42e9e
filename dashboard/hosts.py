# SPDX-License-Identifier: Apache-2.0
"""The names under which this dashboard may be asked: this machine's own, and those it is given."""

from __future__ import annotations

import os
import re
from functools import lru_cache

HOSTS = "GRIDCOMMONS_HOSTS"
"""Environment variable: further names, parted by commas, for a server behind a proxy."""

_OWN = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORT = re.compile(r"[0-9]{1,5}")


def is_ours(host: str) -> bool:
    """Whether a Host header, with or without a port, names this dashboard."""
    return _is_ours(host, os.environ.get(HOSTS, ""))


def cookie_name(name: str, host: str) -> str:
    """The name of a cookie of the dashboard that a browser reached as `host`. A browser sends its
    cookies to every port of a machine, so dashboards beside each other need names of their own."""
    port = host.rpartition(":")[2]
    return f"{name}_{port}" if ":" in host and _PORT.fullmatch(port) else name


@lru_cache(maxsize=256)
def _is_ours(host: str, further: str) -> bool:
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        name = host.lower()
    elif not (port.isascii() and port.isdigit()):
        return False
    return name in _OWN or name in {
        one.strip().lower() for one in further.split(",") if one.strip()
    }
