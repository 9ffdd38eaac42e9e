# SPDX-License-Identifier: Apache-2.0
"""Deep nesting is told before a parser sees it; brackets in strings say nothing."""

from __future__ import annotations

import pytest

from dao.json_input import MAX_DEPTH, is_too_deep


def test_a_document_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    assert not is_too_deep("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert is_too_deep("[" * (MAX_DEPTH + 1))
    assert is_too_deep('{"a":' * (MAX_DEPTH + 1))


def test_lists_beside_each_other_are_not_deep() -> None:
    assert not is_too_deep("[" + "[]," * 10_000 + "[]]")


@pytest.mark.parametrize("text", ['"[[[["', r'"\"[[[["', '"{"'])
def test_brackets_in_strings_say_nothing(text: str) -> None:
    assert not is_too_deep("[" + ",".join([text] * 1_000) + "]")


def test_a_string_without_an_end_hides_nothing() -> None:
    assert is_too_deep('"' + "[" * (MAX_DEPTH + 1))
