# SPDX-License-Identifier: Apache-2.0
"""Where each contract keeps its storage, its transient storage and its immutables, compared with
the committed storage_layouts.json.

No contract is upgraded in place, so a new layout harms no state; but whoever reads storage from
outside relies on it, so a change has to be seen.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from vyper.compiler.output import build_layout_output

from tests.contracts.compiling import CONTRACTS, compiled

SNAPSHOT = Path(__file__).with_name("storage_layouts.json")
UPDATE = ".venv/bin/python -m tests.contracts.test_storage_layouts"
NAMES = sorted(path.stem for path in CONTRACTS.glob("*.vy"))


def layout_of(name: str) -> dict[str, Any]:
    """What `vyper -f layout` says of the contract; interfaces by name, wherever they lie."""
    told = json.dumps(build_layout_output(compiled(name).compiler_data))
    layout: dict[str, Any] = json.loads(re.sub(r'[^"]*/(\w+)\.vyi', r"\1", told))
    return layout


def places(layout: Any, path: str = "") -> dict[str, str]:
    """Every variable of a layout by its path, with its place."""
    if not isinstance(layout, dict):
        return {}
    if isinstance(layout.get("type"), str):
        return {path: json.dumps(layout, sort_keys=True)}
    found: dict[str, str] = {}
    for name, part in layout.items():
        found |= places(part, f"{path}.{name}" if path else name)
    return found


def changes(before: Any, now: Any) -> list[str]:
    """What moved, came or went, a line each."""
    old, new = places(before), places(now)
    return [
        f"{name}: {old.get(name, 'nothing')} became {new.get(name, 'nothing')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def test_every_contract_has_a_snapshot_and_no_other_has() -> None:
    assert sorted(json.loads(SNAPSHOT.read_text())) == NAMES, f"to update the snapshot: {UPDATE}"


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_the_layout_is_seen(name: str) -> None:
    before, now = json.loads(SNAPSHOT.read_text()).get(name, {}), layout_of(name)
    assert now == before, (
        f"the storage layout of {name} changed:\n  "
        + "\n  ".join(changes(before, now))
        + "\nA contract already deployed keeps its layout: there are no proxies. So a change is"
        " fine for the next deployment, if it is meant and nobody reads these places from outside"
        f" (the market's tests read _accounts). Then run `{UPDATE}` and commit the new snapshot."
    )


def test_a_variable_that_moves_is_named() -> None:
    before = {"storage_layout": {"a": {"type": "uint256", "slot": 0}, "m": {}}}
    now = {"storage_layout": {"a": {"type": "uint256", "slot": 1}, "m": {}}}
    assert changes(before, now) == [
        'storage_layout.a: {"slot": 0, "type": "uint256"} became {"slot": 1, "type": "uint256"}'
    ]


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps({name: layout_of(name) for name in NAMES}, indent=1) + "\n")
    print(f"{SNAPSHOT.name}: {len(NAMES)} contracts")
