# SPDX-License-Identifier: Apache-2.0
"""Logs of the service: one JSON object a line, with the time, the event and a few numbers.

Never a reading's value, never a key, never an address with a password in it.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST = 2_000
# Of an address, what may hold a password or a provider's key: before the host, and behind it.
_ADDRESS = re.compile(r"((?:http|ws|mqtt)s?://)(?:[^\s/@\\]*@)?([\w.:\[\]-]+)[^\s,;()'\"\\]*")


class JsonLines(logging.Formatter):
    """A record and its `extra` fields as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("gridcommons."),
            "event": record.getMessage()[:_LONGEST],
        }
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _ADDRESS.sub(r"\1\2", json.dumps(line, default=str))


def log_to_stderr() -> None:
    """Send this program's events to standard error; of libraries only what is an error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    logging.getLogger("gridcommons").setLevel(logging.INFO)
    # Libraries log a lost line or a rude client, this service's daily bread, with a traceback.
    for name in ("mqtt", "asyncio", "uvicorn", "aiomqtt", "paho"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
