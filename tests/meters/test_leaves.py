# SPDX-License-Identifier: Apache-2.0
"""Salted leaves and the Merkle tree over them, against a tree written plainly."""

from __future__ import annotations

import time
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.eip712 import keccak
from dao.leaves import LEAF_TAG, NULL_WH, leaf_of
from dao.slots import first_slot_of_day
from meters.leaves import (
    LEAF_BYTES,
    first_slot_of_month,
    leaves_of,
    month_at,
    month_of,
    months_of_record,
    proof_of,
    record_leaves,
    record_salt,
    record_salts,
    root_of_leaves,
    salt_of,
    verify_proof,
)
from meters.readings import Quality, Reading, Readings
from meters.secrets import DerivedSecrets
from tests.meters.batch_rows import Edit

SECRETS = DerivedSecrets(b"a secret for the tests only")
MAY = 46 * 12 + 4
MAY_SLOT, JUNE_SLOT = (first_slot_of_day(date(2016, month, 3)) for month in (5, 6))


def plain_root(nodes: list[bytes]) -> bytes:
    """The same tree by recursion over neighbours: sorted pairs, the odd one moves up."""
    if len(nodes) == 1:
        return nodes[0]
    above = []
    while nodes:
        pair, nodes = nodes[:2], nodes[2:]
        above.append(keccak(b"".join(sorted(pair))) if len(pair) == 2 else pair[0])
    return plain_root(above)


hashes = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70, unique=True)


@given(hashes)
def test_the_root_is_that_of_the_plain_tree(leaves: list[bytes]) -> None:
    assert root_of_leaves(leaves) == plain_root(leaves)


@given(hashes, st.data())
def test_every_leaf_proves_itself_and_a_changed_one_does_not(
    leaves: list[bytes], data: st.DataObject
) -> None:
    root = root_of_leaves(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = proof_of(leaves, index)
    assert verify_proof(root, leaves[index], proof)
    changed = bytes([leaves[index][0] ^ 1]) + leaves[index][1:]
    assert not verify_proof(root, changed, proof)
    if proof:
        assert not verify_proof(root, leaves[index], proof[:-1])
        bent = [*proof[:-1], bytes([proof[-1][0] ^ 1]) + proof[-1][1:]]
        assert not verify_proof(root, leaves[index], bent)


def test_a_tree_without_leaves_has_no_root() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        root_of_leaves([])
    with pytest.raises(IndexError):
        proof_of([bytes(32)], 1)


def test_a_leaf_is_packed_as_documented_and_no_inner_node() -> None:
    rows = Readings.of([Reading(7, 1_600_000, 250, None)])
    salt = salt_of(SECRETS.month_secret(7, int(month_of(rows.slot)[0])), 1_600_000)
    packed = LEAF_TAG + (7).to_bytes(4, "big") + (1_600_000).to_bytes(8, "big")
    packed += (250).to_bytes(4, "big") + b"\xff" * 4 + b"\x01" + salt
    assert len(packed) == LEAF_BYTES != 64
    assert leaves_of(rows, SECRETS) == [keccak(packed)]
    assert leaf_of(7, 1_600_000, 250, NULL_WH, Quality.MEASURED, salt) == keccak(packed)


@pytest.mark.parametrize(
    "other",
    [
        Reading(2, 100, 5, 6),
        Reading(1, 101, 5, 6),
        Reading(1, 100, 4, 6),
        Reading(1, 100, 5, 7),
        Reading(1, 100, None, 6),
        Reading(1, 100, 5, 6, Quality.ESTIMATED),
    ],
)
def test_any_field_changes_the_leaf(other: Reading) -> None:
    one = leaves_of(Readings.of([Reading(1, 100, 5, 6)]), SECRETS)
    assert leaves_of(Readings.of([other]), SECRETS) != one


def test_null_and_zero_have_different_leaves() -> None:
    zero, null = (Readings.of([Reading(1, 100, value, 6)]) for value in (0, None))
    assert leaves_of(zero, SECRETS) != leaves_of(null, SECRETS)


def test_the_same_values_give_other_leaves_under_another_secret() -> None:
    rows = Readings.of([Reading(1, 100, 5, 6)])
    other = DerivedSecrets(b"another secret, also only here")
    assert leaves_of(rows, SECRETS) != leaves_of(rows, other)


def test_a_secret_opens_one_home_and_one_month_only() -> None:
    secrets = {SECRETS.month_secret(meter, month) for meter in (1, 2) for month in (552, 553)}
    assert len(secrets) == 4


def test_months_change_at_midnight_utc() -> None:
    begin = first_slot_of_day(date(2016, 7, 1))
    assert month_of(np.array([begin - 1, begin])).tolist() == [46 * 12 + 5, 46 * 12 + 6]


def test_a_short_root_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        DerivedSecrets(b"short")


def test_an_erased_row_keeps_the_root_verifiable() -> None:
    rows = [Reading(m, s, m * s, 0) for m in range(1, 6) for s in range(96)]
    leaves = leaves_of(Readings.of(rows), SECRETS)
    root = root_of_leaves(leaves)
    erased = [None if row.meter == 3 else row for row in rows]  # their hashes are all that is left
    again = [
        leaves[i] if row is None else leaves_of(Readings.of([row]), SECRETS)[0]
        for i, row in enumerate(erased)
    ]
    assert root_of_leaves(again) == root
    assert verify_proof(root, leaves[0], proof_of(again, 0))


def test_the_root_of_a_days_leaves_is_quick() -> None:
    leaves = [keccak(i.to_bytes(4, "big")) for i in range(11_328)]
    begin = time.process_time()
    root_of_leaves(leaves)
    assert time.process_time() - begin < 0.2


# Edit records


def test_a_records_leaf_is_packed_as_documented_and_no_other_leaf() -> None:
    record = Edit(7, MAY_SLOT)
    secret = SECRETS.month_secret(7, MAY)
    salt = keccak(secret + b"record" + MAY_SLOT.to_bytes(8, "big") + bytes(4))
    assert record_salts([record], SECRETS) == [salt]
    tag = keccak(b"GridCommons edit record leaf v1")
    expected = keccak(tag + salt + keccak(record.canonical()))
    assert record_leaves([record], SECRETS) == [expected]
    assert salt != salt_of(secret, MAY_SLOT)


def test_records_of_one_slot_are_numbered_and_salted_apart() -> None:
    same = [Edit(7, MAY_SLOT), Edit(7, MAY_SLOT), Edit(7, MAY_SLOT + 1), Edit(8, MAY_SLOT + 1)]
    assert len(set(record_salts(same, SECRETS))) == 4
    assert len(set(record_leaves(same, SECRETS))) == 4


def test_a_record_that_speaks_of_two_months_needs_the_secrets_of_both() -> None:
    record = Edit(7, JUNE_SLOT, {"like_days": [{"slot": MAY_SLOT, "import_wh": 5}], "slots": 3})
    assert months_of_record(record.canonical()) == [MAY, MAY + 1]
    both = SECRETS.month_secret(7, MAY) + SECRETS.month_secret(7, MAY + 1)
    assert record_salts([record], SECRETS) == [record_salt(both, JUNE_SLOT, 0)]


@pytest.mark.parametrize(
    ("inputs", "months"),
    [
        (
            {"days": [[MAY_SLOT - 96 * 40, 5, 0], [MAY_SLOT, 7, 0]]},
            [MAY - 2, MAY - 1, MAY, MAY + 1],
        ),
        ({"left": [JUNE_SLOT - 288, 4, 0], "right": [JUNE_SLOT + 4, 4, 0]}, [MAY, MAY + 1]),
        ({"first": JUNE_SLOT - 1, "slots": 96 * 30, "import_wh": 900}, [MAY + 1, MAY + 2]),
        ({"slots": 4, "import_wh": 17_250, "sequence": 99_000, "at": 1_464_000_000}, [MAY + 1]),
    ],
)
def test_a_record_speaks_of_every_month_between_the_slots_it_names(
    inputs: dict[str, object], months: list[int]
) -> None:
    assert months_of_record(Edit(7, JUNE_SLOT, inputs).canonical()) == months


def test_months_begin_where_their_first_slot_does() -> None:
    for month in (0, 1, 25, MAY, MAY + 1):
        first = first_slot_of_month(month)
        assert month_at(first) == month
        assert first == 0 or month_at(first - 1) == month - 1
