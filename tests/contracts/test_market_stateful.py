# SPDX-License-Identifier: Apache-2.0
"""Random lives of a whole market on the real contracts, step by step beside the plain model.

The machine draws what people do, right or wrong; the model (market_model) says what must come of
it: the new state, or the reason of the revert. After every step the laws are checked. To add a
step: draw its arguments, ask the model first through `attempt`, never catch a revert yourself.
`GRIDCOMMONS_STATEFUL_LIVES` sets the number of lives, `GRIDCOMMONS_STATEFUL_SHRINK=1` looks for
the shortest life that fails.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import boa
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dao.eip712 import address_of, compact, sign_digest
from dao.market.orders import Order, market_separator, order_digest, pack
from dao.parameters import MARKET_RULES
from tests.contracts import market_model as model
from tests.contracts.market_model import Account, Key, Market, Offer, Refused, Session
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    NO_PRICE,
    ZONE,
    World,
    build,
    key_of,
    rules,
)

SHRINK = bool(os.environ.get("GRIDCOMMONS_STATEFUL_SHRINK"))
HOMES = 6
STRANGER = HOMES + 1
FUNDS = 60_000
# Every life begins here, and so does the ledger.
BORN = DAY_SLOT - 16
# Small numbers, so that ties, full accounts and bounds come up by themselves.
SMALL = {
    "sessions_per_day": 24,
    "receipt_period": 3_600,
    "abandon_period": 86_400,
    "price_band_min": 3,
    "price_band_max": 60,
    "grid_fee": 20,
    "penalty": 7,
    "min_order_wh": 2,
    "max_slot_wh": 20,
}
CHANGES = {
    1: (24, 12, 6),
    2: (900, 1_800, 3_600),
    3: (1_800, 3_600, 5_400),
    4: (3_600, 7_200),
    5: (0, 3, 8),
    6: (60, 75, 90),
    7: (5, 20, 45),
    8: (0, 7, 30),
    9: (1, 2, 5),
    10: (20, 22, 25),
    16: (86_400, 2 * 86_400),
}
FAULTS = (
    "signer", "chain", "expired", "too much", "too little", "far nonce", "stray bit", "too long",
    "stranger", "again",
)  # fmt: skip

# What the runs reached, by outcome: a machine that only ever gets refused proves nothing.
REACHED: Counter[str] = Counter()
DEPLOYED: list[World] = []


def deployed() -> World:
    if not DEPLOYED:
        DEPLOYED.append(build(homes=HOMES, **SMALL))
        DEPLOYED[0].fund(range(1, HOMES + 1), FUNDS)
    return DEPLOYED[0]


class MarketLife(RuleBasedStateMachine):
    """One life: a few days of six homes, a relay, meddlers and a governing owner."""

    def __init__(self) -> None:
        super().__init__()
        self.world = deployed()
        self.born = boa.env.timestamp
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        boa.env.timestamp = BORN * 900
        registered = DAY_SLOT * 900 - 3 * 86_400
        initial = {r[0]: r[2] for r in rules(**SMALL)}
        self.model = Market(
            now=boa.env.timestamp,
            rules={r.key: model.Rule([(0, initial[r.key])], r.cooldown) for r in MARKET_RULES},
            accounts={n: Account(FUNDS) for n in range(1, HOMES + 1)},
            keys={n: [Key(f"device {n}", registered)] for n in range(1, HOMES + 1)},
        )
        self.deposited = HOMES * FUNDS
        self.words: dict[Offer, list[int]] = {}
        self.last: tuple[Offer, list[int], list[bytes]] | None = None
        self.steps = 0

    def teardown(self) -> None:
        self.anchor.__exit__(None, None, None)
        boa.env.timestamp = self.born

    # -- helpers ---------------------------------------------------------------------------

    @property
    def market(self) -> Any:
        return self.world.market

    def attempt(self, name: str, expected: Callable[[], Any], call: Callable[[], Any]) -> Any:
        """The model's answer, once the contract has given the same: result or reason."""
        self.steps += 1
        REACHED["steps"] += 1
        try:
            answer = expected()
        except Refused as refusal:
            with boa.reverts(refusal.reason):
                call()
            REACHED[f"{name}: {refusal.reason}"] += 1
            return None
        call()
        REACHED[name] += 1
        return answer if answer is not None else True

    def turn_to(self, moment: int) -> None:
        self.model.now = boa.env.timestamp = moment

    def sessions(self, wanted: Callable[[Session], bool]) -> list[int]:
        return [first for first, s in self.model.sessions.items() if wanted(s)]

    def rows(self, session: Session) -> list[int]:
        return [word for offer in session.book for word in self.words[offer]]

    def tampered(self, session: Session, how: int) -> list[int]:
        """The book with an order dropped, doubled, moved or edited."""
        parts = [self.words[offer] for offer in session.book]
        if how == 0:
            parts = parts[:-1]
        elif how == 1:
            parts = [*parts, parts[0]]
        elif how == 2 and parts[0] != parts[-1]:
            parts = [parts[-1], *parts[1:-1], parts[0]]
        else:
            parts = [[parts[0][0] ^ (1 << 104), *parts[0][1:]], *parts[1:]]
        return [word for part in parts for word in part]

    # -- money -----------------------------------------------------------------------------

    @rule(account=st.integers(1, STRANGER), amount=st.sampled_from((0, 1, 5_000, 40_000)))
    def deposit(self, account: int, amount: int) -> None:
        w = self.world
        w.token.mint(w.deployer, amount, sender=w.deployer)
        w.token.approve(self.market.address, amount, sender=w.deployer)
        if self.attempt(
            "deposit",
            lambda: self.model.deposit(account, amount),
            lambda: self.market.deposit([account], [amount], sender=w.deployer),
        ):
            self.deposited += amount

    @rule(
        account=st.integers(1, HOMES),
        part=st.sampled_from((0, 1, 10, 100, 101)),
        by_owner=st.sampled_from((True, True, True, False)),
    )
    def withdraw(self, account: int, part: int, by_owner: bool) -> None:
        amount = self.model.accounts[account].balance * part // 100 + (part == 101)
        sender = self.world.owner(account if by_owner else account % HOMES + 1)
        self.attempt(
            "withdraw",
            lambda: self.model.withdraw(account, amount, by_owner=by_owner),
            lambda: self.market.withdraw(account, amount, sender, sender=sender),
        )

    @precondition(lambda self: self.model.fees_due)
    @rule()
    def collect_fees(self) -> None:
        self.attempt("collect fees", self.model.collect_fees, self.market.collect_fees)

    @rule(
        account=st.integers(1, HOMES),
        ahead=st.sampled_from((0, 1, 3, 15, 16)),
        by_owner=st.sampled_from((True, True, True, False)),
    )
    def revoke(self, account: int, ahead: int, by_owner: bool) -> None:
        nonce = self.model.accounts[account].first_unused + ahead
        sender = self.world.owner(account if by_owner else account % HOMES + 1)
        self.attempt(
            "revoke",
            lambda: self.model.revoke(account, nonce, by_owner=by_owner),
            lambda: self.market.revoke(account, nonce, sender=sender),
        )

    # -- time ------------------------------------------------------------------------------

    def moments(self) -> list[int]:
        """What lies ahead: gates, deadlines, ends and their edges, next hours."""
        m, result = self.model, {(self.model.now // 3_600 + 1) * 3_600}
        for s in m.sessions.values():
            if s.settled == s.slots:
                continue
            result |= {s.gate - 1, s.gate, s.end - 1, s.end}
            if m.now >= s.gate:
                cleared_by = s.gate + m.rule(3, s.gate)
                receipts_by = s.end + m.rule(4, s.gate)
                abandoned = s.end + m.rule(16, s.gate)
                result |= {cleared_by, cleared_by + 1, receipts_by, receipts_by + 1}
                result |= {abandoned, abandoned + 1}
        return sorted(t for t in result if t > m.now)

    @rule(steps=st.sampled_from((0, 0, 1, 1, 2, 3, 9)))
    def time_passes(self, steps: int) -> None:
        moments = self.moments()
        self.turn_to(moments[min(steps, len(moments) - 1)])
        self.attempt("time passes", lambda: None, lambda: None)

    # -- orders ----------------------------------------------------------------------------

    def next_start(self, nth: int) -> int:
        """The nth session start ahead whose gate is open, as far as one can be seen."""
        slot = self.model.now // 900 + 1
        while True:
            try:
                session = self.model.sessions.get(slot) or self.model.shape(slot)
            except Refused:
                slot += 1
                continue
            if session.gate > self.model.now:
                if nth == 0:
                    return slot
                nth -= 1
            slot += session.slots

    def offer(self, data: st.DataObject, first_slot: int, taken: set[tuple[int, int]]) -> Offer:
        account = data.draw(st.integers(1, HOMES))
        side = data.draw(st.sampled_from((BID, ASK)))
        limit = data.draw(st.sampled_from((0, 3, 10, 11, 12, 30))) + (30 if side == BID else 0)
        limit = data.draw(st.sampled_from((limit,) * 6 + (70, 65_534)))
        kind = data.draw(st.sampled_from(("one", "flat", "part", "profile", "profile")))
        wh = data.draw(st.integers(2, 9))
        if kind == "one":
            offset, values = 0, (wh,)
        elif kind == "flat":
            offset, values = 0, (wh,) * 4
        elif kind == "part":
            offset, values = 2, (wh, wh)
        else:
            offset, values = 0, (wh, data.draw(st.integers(0, 9)), 0, data.draw(st.integers(0, 20)))
        nonce = self.model.accounts[account].first_unused
        nonce += data.draw(st.sampled_from((0, 0, 0, 1, 5)))
        while (account, nonce) in taken or nonce in self.model.accounts[account].used:
            nonce += 1
        return Offer(account, side, limit, first_slot + offset, values, nonce, first_slot * 900)

    def spoil(
        self, offer: Offer, fault: str, first_slot: int
    ) -> tuple[Offer, list[int], list[bytes]]:
        """The order, its words and its signature, with one thing wrong unless fault is empty."""
        if fault == "again" and self.last:
            offer, words, signature = self.last
            # For another session the same words speak of other slots, and the signature fails.
            moved = first_slot + offer.first_slot % 4 - offer.first_slot
            if moved:
                return (
                    replace(offer, first_slot=offer.first_slot + moved, well_signed=False),
                    words,
                    signature,
                )
            return offer, words, signature
        if fault == "expired":
            offer = replace(offer, expiry=self.model.now - 1)
        elif fault == "too much":
            offer = replace(offer, values=(offer.values[0], 26, *offer.values[2:])[:4])
        elif fault == "too little":
            offer = replace(offer, values=(self.model.rule(9) - 1 or 26,))
        elif fault == "far nonce":
            offer = replace(offer, nonce=self.model.accounts[offer.account].first_unused + 16)
        elif fault == "too long":
            offer = replace(offer, values=(2,) * 25)
        elif fault == "stranger":
            offer = replace(offer, account=STRANGER)
        flat = len(set(offer.values)) == 1
        order = Order(
            offer.account, 0, offer.nonce, offer.expiry, offer.side, offer.limit, first_slot,
            offer.first_slot - first_slot, offer.values[0] if flat else offer.values,
            len(offer.values),
        )  # fmt: skip
        words = pack(order)
        separator, signer = self.world.separator, offer.account
        if fault == "stray bit":
            words[0] |= 1 << 192
            offer = replace(offer, well_formed=False)
        elif fault == "signer":
            signer = signer % HOMES + 1
            offer = replace(offer, well_signed=False)
        elif fault == "chain":
            separator = market_separator(1, self.market.address)
            offer = replace(offer, well_signed=False)
        key = self.world.owner_key(signer)
        signature = list(compact(sign_digest(key, order_digest(separator, order))))
        return offer, words, signature

    @rule(
        data=st.data(),
        nth=st.sampled_from((0, 0, 0, 0, 1)),
        count=st.integers(2, 6),
        faults=st.lists(st.sampled_from(FAULTS), max_size=1),
    )
    def post(self, data: st.DataObject, nth: int, count: int, faults: list[str]) -> None:
        first_slot = self.next_start(nth)
        batch: list[tuple[Offer, list[int], list[bytes]]] = []
        taken: set[tuple[int, int]] = set()
        for place in range(count):
            offer = self.offer(data, first_slot, taken)
            fault = faults[place] if place < len(faults) else ""
            offer, words, signature = self.spoil(offer, fault, first_slot)
            taken.add((offer.account, offer.nonce))
            batch.append((offer, words, signature))
        self.send(first_slot, batch)

    @rule(
        data=st.data(),
        how=st.sampled_from(("owner", "owner", "stranger", "off the grid", "closed", "far ahead")),
    )
    def post_oddly(self, data: st.DataObject, how: str) -> None:
        if how in ("owner", "stranger"):
            self.post_without_signature(data, how == "owner")
        else:
            self.post_where_no_session_takes_orders(data, how)

    def post_without_signature(self, data: st.DataObject, direct: bool) -> None:
        first_slot = self.next_start(0)
        offer, words, _ = self.spoil(self.offer(data, first_slot, set()), "", first_slot)
        sender = self.world.owner(offer.account if direct else offer.account % HOMES + 1)
        batch = [(replace(offer, well_signed=direct), words, [bytes(32)] * 2)]
        self.send(first_slot, batch, sender=sender)

    def post_where_no_session_takes_orders(self, data: st.DataObject, how: str) -> None:
        first_slot = self.next_start(0)
        if how == "off the grid":
            first_slot += 1
        elif how == "far ahead":
            first_slot = first_slot // 96 * 96 + 3 * 96
        else:
            closed = self.sessions(lambda s: s.gate <= self.model.now)
            if closed:
                first_slot = closed[-1]
        self.send(first_slot, [self.spoil(self.offer(data, first_slot, set()), "", first_slot)])

    def send(
        self,
        first_slot: int,
        batch: list[tuple[Offer, list[int], list[bytes]]],
        sender: str | None = None,
    ) -> None:
        reasons = self.attempt(
            "post",
            lambda: self.model.post(first_slot, [offer for offer, _, _ in batch]),
            lambda: self.market.post(
                ZONE,
                first_slot,
                [word for _, words, _ in batch for word in words],
                [part for _, _, signature in batch for part in signature],
                sender=sender or self.world.deployer,
            ),
        )
        if reasons is None:
            return
        rejected = {e.position: e.reason for e in self.world.events("OrderRejected")}
        assert [rejected.get(i, 0) for i in range(len(batch))] == reasons
        for (offer, words, signature), reason in zip(batch, reasons, strict=True):
            REACHED[f"order: {reason}"] += 1
            if reason == 0:
                self.words[offer] = words
                self.last = (offer, words, signature)

    # -- clearing --------------------------------------------------------------------------

    def waits_for_prices(self, s: Session) -> bool:
        return len(s.prices) < s.slots and not s.voided and self.model.now >= s.gate - 1

    def waits_for_settlement(self, s: Session) -> bool:
        return s.settled < (s.slots if s.voided else len(s.prices))

    def due(self) -> tuple[str, int] | None:
        """What an honest keeper would do now, and for which session."""
        m = self.model
        for first, s in m.sessions.items():
            if len(s.prices) < s.slots and not s.voided and m.now >= s.gate:
                late = m.now > s.gate + m.rule(3, s.gate)
                return ("void" if late else "clear"), first
        for first, s in m.sessions.items():
            if s.settled < s.slots and m.now >= s.end:
                ready = m.committed_until >= first + s.slots
                return ("settle" if ready else "commit"), first
        return None

    @precondition(lambda self: self.due())
    @rule(data=st.data(), pick=st.integers(0, 1))
    def a_keeper_does_its_duty(self, data: st.DataObject, pick: int) -> None:
        self.do_duty(data, pick)

    @precondition(lambda self: self.due())
    @rule(data=st.data(), pick=st.integers(0, 1))
    def another_keeper_does_too(self, data: st.DataObject, pick: int) -> None:
        """Rules come up equally often; a market whose keepers rest gets nowhere."""
        self.do_duty(data, pick)

    def do_duty(self, data: st.DataObject, pick: int) -> None:
        duty = self.due()
        assert duty is not None
        what, first = duty
        if what == "clear":
            session = self.model.sessions[first]
            left = session.slots - len(session.prices)
            slip = data.draw(st.sampled_from((-1, 1, 7)))
            self.clear_session(first, left, "price" if pick else "", slip, 0)
        elif what == "void":
            self.void_session(first)
        elif what == "commit":
            self.commit_hours(0, data.draw(st.sampled_from((1_000, 1_000, 6))), 0)
        else:
            fault = data.draw(st.sampled_from(("", "", "missing")))
            self.settle_session(data, first, 96, fault, pick)

    @precondition(lambda self: self.sessions(self.waits_for_prices))
    @rule(
        pick=st.integers(0, 3),
        run=st.sampled_from((0, 1, 4, 24, 24, 24)),
        fault=st.sampled_from(("", "", "", "", "price", "price", "rows", "run")),
        slip=st.sampled_from((-1, 1, 7)),
    )
    def clear(self, pick: int, run: int, fault: str, slip: int) -> None:
        waiting = self.sessions(self.waits_for_prices)
        self.clear_session(waiting[pick % len(waiting)], run, fault, slip, pick)

    def clear_session(self, first: int, run: int, fault: str, slip: int, pick: int) -> None:
        session = self.model.sessions[first]
        left = session.slots - len(session.prices)
        run = left + 1 if fault == "run" else min(run, left)
        whole = fault != "rows" or not session.book
        rows = self.rows(session) if whole else self.tampered(session, pick)
        start = len(session.prices)
        if self.model.now < session.gate or fault == "run":
            # Which price is right is not known yet; it must not come to that either.
            prices = [NO_PRICE] * run
        else:
            prices = self.model.due_prices(session, run)
        if fault == "price" and run and self.model.now >= session.gate and whole:
            self.clear_wrongly(session, rows, prices, slip)
        if self.attempt(
            "clear",
            lambda: self.model.clear(first, run, whole_book=whole),
            lambda: self.market.clear(ZONE, first, rows, prices),
        ):
            events = self.world.events("SlotCleared")
            assert [e.price for e in events] == prices
            for event, slot in zip(events, range(first + start, first + start + run), strict=True):
                _, fills = self.model.price_and_fills(session, slot)
                sides = [sum(f for f, o in zip(fills, session.book, strict=True) if o.side == side)
                         for side in (BID, ASK)]  # fmt: skip
                assert sides == [event.volume_wh] * 2, "energy sold is energy bought"
                REACHED["slots with trade"] += event.volume_wh > 0

    def clear_wrongly(
        self, session: Session, rows: list[int], prices: list[int], slip: int
    ) -> None:
        """No other price is accepted, and the reason says which rule it breaks."""
        deadline = session.gate + self.model.rule(3, session.gate)
        right = prices[-1]
        wrong = (10 + slip) if right == NO_PRICE else max(right + slip, 0)
        if slip == 7 and right != NO_PRICE:
            wrong = NO_PRICE
        if wrong == right:
            return
        last = session.first_slot + len(session.prices) + len(prices) - 1
        reason = "market: too late to clear"
        if self.model.now <= deadline:
            reason = self.model.why_not(session, last, wrong)
            REACHED["wrong price"] += 1
        with boa.reverts(reason):
            self.market.clear(ZONE, session.first_slot, rows, [*prices[:-1], wrong])

    @precondition(lambda self: self.sessions(lambda s: s.settled < s.slots))
    @rule(data=st.data(), pick=st.integers(0, 5), what=st.sampled_from(("void", "abandon")))
    def call_off(self, data: st.DataObject, pick: int, what: str) -> None:
        firsts = self.sessions(lambda s: s.settled < s.slots)
        if what == "abandon":
            firsts = self.sessions(lambda s: s.settled < len(s.prices)) or firsts
            self.abandon_session(firsts[pick % len(firsts)])
        else:
            off = data.draw(st.sampled_from((0, 0, 0, 1)))
            self.void_session(firsts[pick % len(firsts)] + off)

    def void_session(self, first: int) -> None:
        self.attempt("void", lambda: self.model.void(first), lambda: self.market.void(ZONE, first))

    def abandon_session(self, first: int) -> None:
        self.attempt(
            "abandon", lambda: self.model.abandon(first), lambda: self.market.abandon(ZONE, first)
        )

    # -- delivery --------------------------------------------------------------------------

    @precondition(lambda self: self.sessions(lambda s: self.model.now >= s.end))
    @rule(
        hours=st.sampled_from((0, 0, 0, 1)),
        export=st.sampled_from((1_000, 1_000, 1_000, 6)),
        gap=st.sampled_from((0, 0, 0, 0, 4)),
    )
    def commit(self, hours: int, export: int, gap: int) -> None:
        """Commit all whole hours that are over (hours: as many more), up to a day."""
        self.commit_hours(hours, export, gap)

    def commit_hours(self, hours: int, export: int, gap: int) -> None:
        first = (self.model.committed_until or BORN) + gap
        slots = min(96, max((self.model.now // 3_600) * 4 - first, 0) + 4 * hours)
        if slots == 0:
            return
        self.attempt(
            "commit",
            lambda: self.model.commit(first, [export] * slots),
            lambda: self.world.commit(first, [export] * slots),
        )

    def receipt(
        self, meter: int, session: Session, values: list[int], key: str
    ) -> tuple[list[int], list[bytes]]:
        return self.world.receipts(
            {meter: values}, session=session.first_slot, keys={meter: key_of(key)}
        )

    def measured(self, data: st.DataObject, session: Session) -> list[int]:
        kind = data.draw(st.sampled_from(("full", "full", "short", "nothing")))
        most = {"full": 60, "short": 5, "nothing": 0}[kind]
        return (
            [most] * session.slots
            if most != 5
            else [data.draw(st.integers(0, 5))] * (session.slots)
        )

    def rightful_key(self, meter: int, session: Session) -> str:
        return self.model.key_at(meter, session.end - 1) or self.model.keys[meter][-1].name

    @precondition(lambda self: self.sessions(self.waits_for_settlement))
    @rule(
        data=st.data(),
        pick=st.integers(0, 3),
        run=st.sampled_from((0, 1, 3, 24, 24, 24, 24)),
        fault=st.sampled_from(("",) * 8 + ("rows", "missing", "missing", "forged", "run")),
    )
    def settle(self, data: st.DataObject, pick: int, run: int, fault: str) -> None:
        waiting = self.sessions(self.waits_for_settlement)
        self.settle_session(data, waiting[pick // 2 % len(waiting)], run, fault, pick)

    def settle_session(
        self, data: st.DataObject, first: int, run: int, fault: str, pick: int
    ) -> None:
        session = self.model.sessions[first]
        settleable = session.slots if session.voided else len(session.prices)
        run = (
            settleable - session.settled + 1
            if fault == "run"
            else min(run, settleable - session.settled)
        )
        whole = fault != "rows" or not session.book
        rows = self.rows(session) if whole else self.tampered(session, pick)
        receipts: dict[int, tuple[list[int], str]] = {}
        for meter in sorted({o.account for o in session.book if o.side == ASK}):
            key = self.rightful_key(meter, session)
            if fault == "missing" and data.draw(st.booleans()):
                continue
            if self.model.key_at(meter, session.end - 1) is None and pick:
                continue
            if fault == "forged":
                key = "nobody"
            receipts[meter] = (self.measured(data, session), key)
        words, signatures = [], []
        for meter, (values, key) in receipts.items():
            w, s = self.receipt(meter, session, values, key)
            words += w
            signatures += s
        hints = [0] * ((len(session.book) + 15) // 16)
        order_of = {meter: n + 1 for n, meter in enumerate(sorted(receipts))}
        for i, offer in enumerate(session.book):
            if offer.side == ASK and offer.account in order_of:
                hints[i // 16] |= order_of[offer.account] << (16 * (i % 16))
        start = session.settled
        voided = session.voided
        settlement = self.attempt(
            "settle",
            lambda: self.model.settle(first, run, receipts, whole_book=whole),
            lambda: self.market.settle(
                ZONE, first, run, rows, words, signatures, hints, sender=self.world.deployer
            ),
        )
        if settlement is None:
            return
        REACHED["settle after void"] += voided
        REACHED["Wh delivered"] += sum(settlement.delivered)
        self.check_settlement(session, start, run, settlement)

    def check_settlement(
        self, session: Session, start: int, run: int, expected: model.Settlement
    ) -> None:
        (event,) = self.world.events("OrdersSettled")
        entries = [
            model.Entry(
                e >> 224, (e >> 216) & 1, (e >> 168) & (2**48 - 1), (e >> 120) & (2**48 - 1),
                e & (2**120 - 1),
            )
            for e in event.entries
        ]  # fmt: skip
        assert entries == expected.entries
        slots = self.world.events("SlotSettled")
        assert [e.delivered_wh for e in slots] == expected.delivered
        assert sum(e.fees for e in slots) == expected.fees
        sold, bought = (sum(e.delivered for e in entries if e.side == s) for s in (ASK, BID))
        assert sold == bought, "energy sold is energy bought"
        span = range(session.first_slot + start, session.first_slot + start + run)
        book = [o for side in (ASK, BID) for o in session.book if o.side == side]
        for order, entry in zip(book, entries, strict=True):
            held = session.rate(order) * sum(order.at(slot) for slot in span)
            if order.side == BID:
                assert held - entry.credit <= order.limit * entry.delivered, "paid above the limit"
            else:
                earned = entry.credit - held + (entry.filled - entry.delivered) * session.penalty
                assert earned >= order.limit * entry.delivered, "sold below the limit"

    @precondition(lambda self: self.sessions(self.waits_for_settlement))
    @rule(
        data=st.data(),
        meter=st.integers(1, HOMES),
        pick=st.integers(0, 3),
        forged=st.sampled_from((False, False, True)),
    )
    def lodge(self, data: st.DataObject, meter: int, pick: int, forged: bool) -> None:
        firsts = self.sessions(lambda s: s.settled < s.slots) or list(self.model.sessions)
        session = self.model.sessions[firsts[pick % len(firsts)]]
        key = "nobody" if forged else self.rightful_key(meter, session)
        words, signature = self.receipt(meter, session, self.measured(data, session), key)
        self.attempt(
            "lodge",
            lambda: self.model.lodge(meter, session.first_slot, key),
            lambda: self.market.lodge_receipt(meter, session.first_slot, words[1:], signature),
        )

    # -- office ----------------------------------------------------------------------------

    @rule(data=st.data(), what=st.sampled_from(("key", "rule", "window", "window")))
    def office(self, data: st.DataObject, what: str) -> None:
        if what == "key":
            self.change_key(data.draw(st.integers(1, HOMES)), data.draw(st.booleans()))
        elif what == "rule":
            self.change_rule(
                data.draw(st.sampled_from(sorted(CHANGES))), data.draw(st.integers(0, 2))
            )
        else:
            self.open_window(
                data.draw(st.sampled_from((5, 6, 7))),
                data.draw(st.integers(0, 2)),
                data.draw(st.sampled_from((0, 4, 5, 6, 7, 8))),
                data.draw(st.sampled_from((1, 2, 4))),
            )

    def change_key(self, meter: int, rotate: bool) -> None:
        w = self.world
        if rotate or self.model.keys[meter][-1].until is not None:
            name = f"device {meter}, {len(self.model.keys[meter])} before"
            self.attempt(
                "rotate key",
                lambda: self.model.rotate(meter, name),
                lambda: w.registry.rotate_key(meter, address_of(key_of(name)), sender=w.deployer),
            )
        else:
            self.attempt(
                "suspend key",
                lambda: self.model.suspend(meter),
                lambda: w.registry.suspend_key(meter, sender=w.deployer),
            )

    def leave_gate_seconds(self) -> None:
        """A change in a gate's very second would hold for what is cleared later in it."""
        while any(s.gate == self.model.now for s in self.model.sessions.values()):
            self.turn_to(self.model.now + 1)

    def change_rule(self, key: int, which: int) -> None:
        self.leave_gate_seconds()
        value = CHANGES[key][which % len(CHANGES[key])]
        self.attempt(
            "change rule",
            lambda: self.model.set_rule(key, value),
            lambda: self.world.parameters.set_value(key, value, sender=self.world.deployer),
        )

    def open_window(self, key: int, which: int, ahead: int, slots: int) -> None:
        self.leave_gate_seconds()
        first = self.model.now // 900 + ahead
        slots = min(slots, 96 - first % 96)
        value = CHANGES[key][which]
        self.attempt(
            "open window",
            lambda: self.model.open_window(key, first, slots, value),
            lambda: self.world.parameters.open_window(
                ZONE, key, first, slots, value, sender=self.world.deployer
            ),
        )

    # -- laws ------------------------------------------------------------------------------

    @invariant()
    def money_is_conserved_and_every_account_as_the_model_says(self) -> None:
        m = self.model
        held = self.world.token.balanceOf(self.market.address)
        balances, escrow, fees = (
            self.market.balances(), self.market.escrow(), self.market.fees_due()
        )  # fmt: skip
        assert held == balances + escrow + fees
        assert held == self.deposited - m.paid_out - m.fees_paid
        assert (escrow, fees) == (m.escrow(), m.fees_due)
        assert balances == sum(a.balance for a in m.accounts.values())
        for number, account in m.accounts.items():
            owner, balance, zone, open_orders, base, bits = self.market.account(number)
            assert (balance, open_orders) == (account.balance, account.open_orders)
            assert (owner, zone) == (self.world.owner(number), ZONE)
            used = {base + i for i in range(16) if bits >> i & 1}
            assert base == account.first_unused
            assert used == {n for n in account.used if n > base}
        assert self.world.token.balanceOf(self.world.treasury) == m.fees_paid

    @invariant()
    def sessions_stand_as_the_model_says(self) -> None:
        for first, s in self.model.sessions.items():
            word = self.market.session(ZONE, first)
            assert word == (
                s.slots, s.gate, len(s.prices), s.settled, len(s.book), s.penalty, s.voided
            )  # fmt: skip
        covered = sorted((f, f + s.slots) for f, s in self.model.sessions.items())
        for (_, end), (start, _) in pairwise(covered):
            assert end <= start, "a slot belongs to one session"

    @invariant()
    def a_withdrawal_is_always_possible(self) -> None:
        number = self.steps % HOMES + 1
        account = self.model.accounts[number]
        owner = self.world.owner(number)
        with boa.env.anchor():
            before = self.world.token.balanceOf(owner)
            self.market.withdraw(number, account.balance, owner, sender=owner)
            assert self.world.token.balanceOf(owner) == before + account.balance


def live(lives: int, length: int, *, known: bool) -> Counter[str]:
    REACHED.clear()
    run_state_machine_as_test(
        MarketLife,
        settings=settings(
            max_examples=lives,
            stateful_step_count=length,
            deadline=None,
            derandomize=known,
            database=None,
            # A life takes seconds; shrinking one takes hundreds of them.
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    for name, count in sorted(REACHED.items()):
        print(f"{count:>7} {name}")
    return REACHED


def test_the_market_lives_as_the_model_says() -> None:
    lives = int(os.environ.get("GRIDCOMMONS_STATEFUL_LIVES", "8"))
    reached = live(lives, 100, known=True)
    assert reached["steps"] >= 30 * lives
    assert reached["Wh delivered"] > 0, "a machine that reaches nothing proves nothing"


@pytest.mark.deep
@pytest.mark.timeout(3_600)
def test_the_market_lives_long_as_the_model_says() -> None:
    lives = int(os.environ.get("GRIDCOMMONS_STATEFUL_LIVES", "60"))
    reached = live(lives, 120, known=False)
    assert reached["steps"] >= 5_000
    for outcome in ("clear", "settle", "slots with trade", "Wh delivered", "void", "wrong price"):
        assert reached[outcome] > 0, outcome
