# SPDX-License-Identifier: Apache-2.0
"""docs/adapters.md says what the adapters do, and its example runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from meters.adapters.engine import BUILT_IN, as_dict, load_adapter, parse
from tests.meters.adapters.test_fuzz import COPIES, READ, REFUSED, endings

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "adapters.md").read_text()


def test_the_tables_hold_every_adapter_as_it_describes_itself() -> None:
    for name in BUILT_IN:
        adapter = load_adapter(name)
        says = adapter.conventions
        assert f"| `{name}` | {adapter.title} |" in DOCS
        cells = (says.sign, says.interval, says.time, says.units, says.register)
        assert f"| `{name}` | {' | '.join(cells)} |" in DOCS


def test_the_example_is_short_and_reads_its_record() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    (record,) = re.findall(r"This one reads `(\{.*\})`", DOCS)
    assert len(code.splitlines()) <= 30
    namespace: dict[str, Any] = {}
    exec(compile(code, "docs/adapters.md", "exec"), namespace)
    (reading,) = parse(namespace["EXAMPLE"], [("f", record.encode())]).readings
    found = endings(namespace["EXAMPLE"], record.encode(), COPIES, seed=1)
    assert READ in found
    assert found <= {READ, REFUSED}
    assert as_dict(reading) == {
        "meter": "X1",
        "start": "2024-04-01T10:00:00Z",
        "end": "2024-04-01T10:15:00Z",
        "import_wh": 250,
        "export_wh": None,
        "register": False,
        "quality": "estimated",
        "source_quality": "E",
    }


def test_the_example_record_is_json() -> None:
    (record,) = re.findall(r"This one reads `(\{.*\})`", DOCS)
    assert json.loads(record)["serial"] == "X1"
