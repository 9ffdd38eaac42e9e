# SPDX-License-Identifier: Apache-2.0
"""Deep nesting is told before a parser sees it; brackets in strings say nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dao.json_input import MAX_DEPTH, is_too_deep, loads


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


def test_an_answer_is_read_whatever_its_size() -> None:
    assert loads(b'[{"a": [1, null]}]') == [{"a": [1, None]}]
    assert loads("[" + ",".join(["[[1]]"] * 1_000) + "]") == [[[1]]] * 1_000


@pytest.mark.parametrize("sign", ["[", '{"a":'])
def test_an_answer_nested_without_end_ends_no_process(sign: str) -> None:
    with pytest.raises(ValueError, match="deep"):
        loads(sign * 100_000)
    # A limit as compilers raise it: the parser alone would now run out of stack.
    asked = f"""
import sys
from dao.json_input import loads
sys.setrecursionlimit(1_000_000)
try:
    loads({sign!r} * 100_000)
except ValueError as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout) == (0, "nested too deep\n")
