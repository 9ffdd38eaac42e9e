# SPDX-License-Identifier: Apache-2.0
"""Calldata that no library would write: arrays moved, apart, overlapping, cut, or nowhere.

The market and the auction read their arrays a second time where they lie in the calldata. Whatever
the offsets say, a call comes to what it comes to with the arrays that a decoder finds there, laid
out as usual; or it reverts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boa
import pytest
from eth_abi import encode

from dao.eip712 import keccak
from dao.market.session import pack_batch
from tests.contracts.market_world import ASK, BID, DAY_SLOT, GATE, ZONE, World, delivered

WRAP = 2**256


@dataclass(frozen=True)
class Call:
    """A function with its arguments: static words, and arrays of words."""

    contract: Any
    name: str
    arguments: tuple[Any, ...]

    @property
    def types(self) -> list[str]:
        (entry,) = [f for f in self.contract.abi if f.get("name") == self.name]
        return [argument["type"] for argument in entry["inputs"]]

    @property
    def arrays(self) -> list[int]:
        """Which of the arguments are arrays."""
        return [i for i, kind in enumerate(self.types) if kind.endswith("[]")]

    @property
    def head_size(self) -> int:
        return 32 * len(self.arguments)

    def tail(self, i: int) -> bytes:
        """An array as it lies in calldata: its length and its words."""
        return encode([self.types[i]], [self.arguments[i]])[32:]

    def data(self, places: dict[int, int], body: bytes) -> bytes:
        """The calldata with these offsets, and with this behind the head."""
        head = b"".join(
            (places[i] % WRAP if i in places else argument).to_bytes(32, "big")
            for i, argument in enumerate(self.arguments)
        )
        selector = keccak(f"{self.name}({','.join(self.types)})".encode())[:4]
        return selector + head + body

    def usual(self) -> bytes:
        return self.apart(self.arrays, [0] * len(self.arrays))

    def apart(self, order: Sequence[int], gaps: Sequence[int]) -> bytes:
        """The arrays in some order, each behind a gap of bytes that are not zero."""
        body, places = b"", {}
        for i, gap in zip(order, gaps, strict=True):
            body += b"\xa5" * gap
            places[i] = self.head_size + len(body)
            body += self.tail(i)
        return self.data(places, body)

    def as_decoded(self, data: bytes) -> Call:
        """The call with the arrays that a decoder finds at the offsets of the calldata; behind
        its end there are zeros."""

        def word(at: int) -> int:
            return int.from_bytes(data[at : at + 32].ljust(32, b"\0"), "big")

        found: list[Any] = [word(4 + 32 * i) for i in range(len(self.arguments))]
        for i in self.arrays:
            start = (4 + found[i]) % WRAP
            length = word(start)
            # Longer ones no function takes; what is behind the end is zeros.
            found[i] = [word((start + 32 * (1 + n)) % WRAP) for n in range(min(length, 3_000))]
        return Call(self.contract, self.name, tuple(found))


def outcome(call: Call, data: bytes) -> Any:
    """What a call leaves behind in events, None where it reverts."""
    with boa.env.anchor():
        computation = boa.env.execute_code(to_address=call.contract.address, data=data)
        return None if computation.is_error else computation.get_log_entries()


def posting(world: World) -> Call:
    orders = [
        world.order(1, ASK, 100, 1_000),
        world.order(2, BID, 400, (600, 500)),
        world.order(11, BID, 400, 1_000),  # which is poor
        world.order(3, BID, 350, 500),
    ]
    batch = pack_batch([world.sign(order) for order in orders])
    return Call(world.market, "post", (ZONE, DAY_SLOT, *batch))


def clearing(world: World) -> Call:
    call = posting(world)
    world.post_words(*call.arguments[2:])
    world.at(GATE)
    book = world.posted()
    prices = world.claims([240, None, None, None])
    return Call(world.auction, "clear", (ZONE, DAY_SLOT, prices, book.page_words, book.rows))


def settling(world: World, slots: int = 4) -> Call:
    clearing(world)
    world.clear([240, None, None, None])
    delivered(world)
    arguments = world.settlement({1: [900, 0, 0, 0]}, slots=slots)
    return Call(world.auction, "settle", tuple(arguments))


def settling_a_slot(world: World) -> Call:
    return settling(world, slots=1)


CALLS = pytest.mark.parametrize(
    "made", [posting, clearing, settling, settling_a_slot], ids=lambda f: f.__name__
)


@CALLS
def test_arrays_may_lie_in_any_order_and_apart(world: World, made: Any) -> None:
    call = made(world)
    usual = outcome(call, call.usual())
    assert usual
    rng = random.Random(1)
    for _ in range(30):
        order = rng.sample(call.arrays, len(call.arrays))
        gaps = [rng.choice((0, 1, 31, 32, 64, 4_096)) for _ in order]
        assert outcome(call, call.apart(order, gaps)) == usual


@CALLS
def test_calldata_cut_short_is_not_filled_up_with_zeros(world: World, made: Any) -> None:
    call = made(world)
    last = call.arrays[-1]
    data = call.apart([*call.arrays[:-1], last], [0] * len(call.arrays))
    assert outcome(call, data) is not None
    for cut in (1, 31, 32, 33, 64):
        assert outcome(call, data[:-cut]) is None, cut


@CALLS
def test_an_array_elsewhere_is_the_one_that_counts(world: World, made: Any) -> None:
    """Each array in turn pointed at every word of the calldata, and at some beyond."""
    call = made(world)
    data = call.usual()
    body = data[4 + call.head_size :]
    usual = {i: int.from_bytes(data[4 + 32 * i : 36 + 32 * i], "big") for i in call.arrays}
    rng = random.Random(2)
    reverted = 0
    for i in call.arrays:
        offsets = [*range(0, len(data), 32), *rng.sample(range(len(data)), 20)]
        offsets += [len(data), 2**20, 2**64, 2**255]
        offsets += [WRAP - back for back in (1, 4, 31, 32, 36, 64, 4 + call.head_size, len(data))]
        for offset in offsets:
            moved = call.data({**usual, i: offset}, body)
            came = outcome(call, moved)
            if came is None:
                reverted += 1
            else:
                decoded = call.as_decoded(moved)
                assert came == outcome(decoded, decoded.usual()), (i, offset)
    assert reverted


@CALLS
def test_arrays_thrown_about_are_read_as_they_were_decoded(world: World, made: Any) -> None:
    """All arrays at once, over each other and over ends and beginnings."""
    call = made(world)
    rng = random.Random(3)
    taken = 0
    for _ in range(150):
        order = rng.sample(call.arrays, len(call.arrays))
        data = call.apart(order, [rng.choice((0, 32, 7)) for _ in order])
        places = {i: int.from_bytes(data[4 + 32 * i : 36 + 32 * i], "big") for i in call.arrays}
        for i in rng.sample(call.arrays, rng.randint(0, 1)):
            places[i] = rng.choice(
                (places[rng.choice(call.arrays)], places[i] + 32 * rng.randint(-3, 3))
            )
        moved = call.data(places, data[4 + call.head_size :])
        came = outcome(call, moved)
        if came is not None:
            taken += 1
            decoded = call.as_decoded(moved)
            assert came == outcome(decoded, decoded.usual())
    assert taken


def test_two_batches_in_one_call_are_one_batch(world: World) -> None:
    """Of a good batch and a decoy behind each other only the one that is pointed at counts."""
    good = posting(world)
    decoy = Call(
        world.market,
        "post",
        (
            ZONE,
            DAY_SLOT,
            *pack_batch(
                [world.sign(world.order(a, ASK, 90, (50, 60))) for a in (4, 5)]
                + [world.sign(world.order(a, BID, 410, 60)) for a in (6, 7)]
            ),
        ),
    )
    (at,) = good.arrays
    body = good.tail(at) + decoy.tail(at)
    first, second = good.head_size, good.head_size + len(good.tail(at))
    assert outcome(good, good.data({at: first}, body)) == outcome(good, good.usual())
    assert outcome(decoy, decoy.data({at: second}, body)) == outcome(decoy, decoy.usual())
    # The counts of one do not fit the words of the other.
    assert outcome(good, good.data({at: second}, body)) is None
    assert outcome(decoy, decoy.data({at: first}, body)) is None


@CALLS
def test_words_behind_an_array_are_no_part_of_it(world: World, made: Any) -> None:
    """All that a call needs is there, but the last array ends before some of it."""
    call = made(world)
    *others, at = call.arrays
    words = call.arguments[at]
    for left_out in range(1, len(words) + 1):
        shorter = Call(call.contract, call.name, (*call.arguments[:at], words[:-left_out]))
        data = shorter.apart([*others, at], [0] * len(call.arrays))
        behind = b"".join(word.to_bytes(32, "big") for word in words[-left_out:])
        assert outcome(shorter, data + behind) is None, left_out


def test_a_longer_array_than_there_can_be_is_refused(world: World) -> None:
    call = posting(world)
    (at,) = call.arrays
    for length in (2_049, 2**64, 2**255, WRAP - 1):
        body = length.to_bytes(32, "big") + call.tail(at)[32:] + bytes(32 * 2_100)
        assert outcome(call, call.data({at: call.head_size}, body)) is None
