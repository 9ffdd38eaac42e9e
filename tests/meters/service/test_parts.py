# SPDX-License-Identifier: Apache-2.0
"""Small parts of the service: dispatch reports, typed data for wallets, logs, the clock."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data

from dao.chain import Chain
from dao.errors import BadUse
from meters.acknowledgements import Acknowledgement
from meters.dispatch import DispatchReport
from meters.service.dispatches import MOST_PER_SLOT, Dispatches, erase
from meters.service.logs import JsonLines
from meters.service.run import chain_clock
from meters.signing import Head
from meters.validation import Finding
from tests.keeper.conftest import Gateway as Door
from tests.meters.batch_rows import DAY, SEPARATOR, keys
from tests.meters.service.served import LEDGER, SEAL
from tests.meters.service.zone import HOMES, KEYS, OnChain

NOW = (DAY + 4) * 900
REPORT = DispatchReport(3, DAY, 5_000, 5_000, 1_200, "battery", "held")


def sent(report: DispatchReport, key: bytes = KEYS[3]) -> object:
    return json.loads(json.dumps(report.signed(key, SEPARATOR).to_json()))


@pytest.fixture
def dispatches(tmp_path: Path) -> Dispatches:
    return Dispatches(tmp_path / "dispatch.sqlite", keys(HOMES), SEPARATOR)


def test_a_report_is_kept_once(dispatches: Dispatches) -> None:
    assert dispatches.add(sent(REPORT), NOW)
    assert not dispatches.add(sent(REPORT), NOW)
    assert dispatches.count() == 1


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (sent(REPORT, KEYS[4]), "not by its device"),
        (sent(replace(REPORT, meter=99)), "no such meter"),
        (sent(replace(REPORT, slot=DAY + 96)), "not begun"),
        ({"meter": 3}, "signature"),
        ([], "JSON object"),
    ],
)
def test_a_report_that_does_not_hold_is_refused(
    dispatches: Dispatches, document: object, says: str
) -> None:
    with pytest.raises(BadUse, match=says):
        dispatches.add(document, NOW)
    assert dispatches.count() == 0


def test_a_device_cannot_fill_the_disk_with_reports(dispatches: Dispatches) -> None:
    for wanted in range(MOST_PER_SLOT):
        assert dispatches.add(sent(replace(REPORT, wanted=wanted)), NOW)
    with pytest.raises(BadUse, match="are here"):
        dispatches.add(sent(replace(REPORT, wanted=99)), NOW)


def test_an_erased_report_leaves_nothing_in_the_file(
    dispatches: Dispatches, tmp_path: Path
) -> None:
    dispatches.add(sent(replace(REPORT, detail="a word to find")), NOW)
    dispatches.add(sent(replace(REPORT, slot=DAY + 1)), NOW)
    assert erase(dispatches.path, 3, DAY, DAY + 1) == 1
    dispatches.close()
    assert all(b"a word to find" not in file.read_bytes() for file in tmp_path.iterdir())


def test_wallets_sign_the_same_acknowledgement_as_keys() -> None:
    finding = Finding("signature", 3, DAY, 7)
    made = Acknowledgement(b"\x05" * 32, 3, 1, (finding,), {3: Head(7, b"\x06" * 32)})
    message = encode_typed_data(full_message=made.typed_data(31_337, LEDGER))
    assert bytes(_hash_eip191_message(message)) == made.digest(SEAL)


def test_a_log_line_is_one_json_object() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("gridcommons.collector").makeRecord(
            "gridcommons.collector", logging.ERROR, "", 0, "a %s\nb", ("word",), sys.exc_info()
        )
    record.first_slot = DAY
    line = JsonLines().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["event"], told["level"], told["first_slot"]) == ("a word\nb", "error", DAY)
    assert "two" in told["trace"]


@pytest.mark.parametrize(
    "secret",
    [
        "https://node.example/v3/hidden",
        "https://node.example?hidden",
        "https://me:hidden@node.example/x",
    ],
)
def test_a_log_line_names_a_host_and_no_key(secret: str) -> None:
    record = logging.getLogger("gridcommons.collector").makeRecord(
        "gridcommons.collector", logging.ERROR, "", 0, '"%s"\n', (secret,), None
    )
    line = JsonLines().format(record)
    assert json.loads(line)["event"] == '"https://node.example"\n'


def test_the_clock_of_a_local_chain_stands_while_the_node_is_away(on: OnChain) -> None:
    with Door(on.node.url) as door:
        now = chain_clock(Chain.local(door.url))
        on.at_slot(DAY + 8)
        assert now() == (DAY + 8) * 900
        door.close()
        assert now() == (DAY + 8) * 900
        door.open()
        on.at_slot(DAY + 9)
        assert now() == (DAY + 9) * 900
