# SPDX-License-Identifier: Apache-2.0
"""Following standing offers: for each session that is about to close, decide, sign, hand over.

Everything is written down before it leaves: an order is on disk before the relay sees it, and sent
again as it is until the relay has it. So a crash at any moment doubles nothing. What an order may
say is `plan`'s; who calls `round`, and when, is the service's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dao.eip712 import checksum_address, recover
from dao.errors import CheckFailed, GridCommonsError
from dao.market.orders import Order, market_separator, order_digest, sign_order
from dao.relay.submitted import key_signature
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from forecasting.agent.keys import AgentKeys
from forecasting.agent.offers import side_name
from forecasting.agent.plan import Idle, Terms, Wanted, plan
from forecasting.agent.recent import FEWEST_DAYS, HomeReadings, TooLittle
from forecasting.agent.relaying import Away, Refusal, RelayClient
from forecasting.agent.store import Deed, HeldOffer, OfferStore, State

if TYPE_CHECKING:
    from dao.node import Addresses, Node

log = logging.getLogger("gridcommons.agent")

AHEAD_S = 1_800
"""So long before the relay's last call a session is looked at: late, to know the day's weather
from the meter, and early enough to be asked again where something was missing."""
AGAIN_S = 300
"""After so long an offer that came to no order is looked at again, until the gate."""
_OUTCOMES = {
    one.value: one for one in (State.ACCEPTED, State.REJECTED, State.LATE, State.WITHDRAWN)
}

OwnerSigned = Callable[[HeldOffer], bool]
"""Whether an offer is signed by who owns the account now."""


@dataclass(frozen=True)
class Follower:
    """What an agent works with. market: address of the EnergyMarket; report: told of every step."""

    store: OfferStore
    keys: AgentKeys
    readings: HomeReadings
    relay: RelayClient
    zone: int
    chain_id: int
    market: str
    owner_signed: OwnerSigned
    ahead: int = AHEAD_S
    report: Callable[[Deed], None] = lambda deed: None

    def round(self, now: int) -> list[Deed]:
        """Do what is due at a time, chain time in unix seconds.

        Away where relay or node does not answer: what was done until then is done, the rest is due
        again. What is wrong with one home is written down there and keeps no other from its turn.
        """
        done = [*self._hand_over(now), *self._outcomes(now)]
        offers = self.store.in_force()
        if not offers:
            return done
        for terms in self.relay.sessions(self.zone):
            if terms.orders_until - self.ahead <= now < terms.orders_until:
                for held in offers:
                    deed = self._follow(held, terms, now)
                    if deed is not None:
                        done.append(deed)
        return done

    def _hand_over(self, now: int) -> list[Deed]:
        """What was signed and is not known to have arrived."""
        return [self._submit(deed, now) for deed in self.store.in_state(State.SIGNED)]

    def _submit(self, deed: Deed, now: int) -> Deed:
        assert deed.order_id is not None
        assert deed.document is not None
        newest = [one.offer for one in self.store.in_force([deed.account])]
        wanted = any((one.side, one.version) == (deed.side, deed.version) for one in newest)
        if now >= deed.gate or not wanted:
            # It may have arrived all the same, and its answer not.
            if self.relay.order_state(deed.order_id) is not None:
                return self._note(replace(deed, state=State.TAKEN, at=now))
            if not wanted:
                return self._note(replace(deed, state=State.WITHDRAWN, code="withdrawn", at=now))
            return self._note(replace(deed, state=State.MISSED, code="gate", at=now))
        answer = self.relay.submit(deed.document)
        if isinstance(answer, Refusal):
            facts = {**deed.facts, "problem": answer.problem}
            return self._note(replace(deed, state=State.REFUSED, code="relay", facts=facts, at=now))
        return self._note(replace(deed, state=State.TAKEN, at=now))

    def _outcomes(self, now: int) -> list[Deed]:
        """What came of the orders whose gate has passed."""
        found = []
        for deed in self.store.in_state(State.TAKEN):
            if now < deed.gate or deed.order_id is None:
                continue
            state = _OUTCOMES.get(self.relay.order_state(deed.order_id) or "")
            if state is not None:
                found.append(self._note(replace(deed, state=state, at=now)))
        return found

    def _follow(self, held: HeldOffer, terms: Terms, now: int) -> Deed | None:
        offer, session = held.offer, terms.first_slot
        known = self.store.deed(offer.account, offer.side, session)
        if known is not None and (
            known.order_id is not None
            or (known.version == offer.version and now < known.at + AGAIN_S)
        ):
            return None
        plain = Deed(
            account=offer.account,
            side=offer.side,
            session=session,
            version=offer.version,
            state=State.IDLE,
            code="",
            facts={},
            at=now,
            gate=terms.gate,
            slots=terms.slots,
        )
        try:
            decided = self._decide(held, terms, now)
        except Away:
            raise
        except GridCommonsError as error:
            decided = Idle("unreadable", {"problem": str(error)[:160]})
        except Exception:
            log.exception("account %d could not be followed", offer.account)
            decided = Idle("defect")
        if isinstance(decided, Idle):
            if known is not None and known.code == decided.code:
                self.store.note(replace(plain, code=decided.code, facts=decided.facts))
                return None
            return self._note(replace(plain, code=decided.code, facts=decided.facts))
        wanted, nonce, key = decided
        order = Order(
            account=offer.account,
            mandate=offer.mandate,
            nonce=nonce,
            expiry=terms.gate,
            side=offer.side,
            limit=wanted.limit,
            session_slot=session,
            offset=wanted.first_slot - session,
            wh=wanted.wh,
            count=len(wanted.wh),
        )
        separator = market_separator(self.chain_id, self.market)
        signature = sign_order(separator, order, key)
        facts = {"limit": wanted.limit, "escrow": wanted.escrow, **wanted.facts}
        signed = replace(
            plain,
            state=State.SIGNED,
            code="ordered",
            facts=facts,
            order_id=order_digest(separator, order),
            document=_document(order, signature),
        )
        self.store.note(signed)
        return self._submit(signed, now)

    def _decide(self, held: HeldOffer, terms: Terms, now: int) -> tuple[Wanted, int, bytes] | Idle:
        """The order to sign, its number and the key, or why there is none."""
        offer = held.offer
        if not self.owner_signed(held):
            return Idle("not-owner")
        means = self.relay.means(offer.account, offer.mandate)
        if means.zone != self.zone:
            return Idle("no-account", {"zone": means.zone})
        if not self.keys.has(offer.account):
            return Idle("no-key")
        recent = self.readings.recent(offer.account, now)
        if isinstance(recent, TooLittle):
            return _too_little(recent)
        around = (terms.first_slot - 3 * SLOTS_PER_DAY, terms.first_slot + 3 * SLOTS_PER_DAY)
        ordered = self.store.ordered(offer.account, offer.side, *around, now)
        agent = self.keys.address(offer.account)
        found = plan(offer, agent, terms, recent, means, ordered, now)
        if isinstance(found, Idle):
            return found
        return found, means.nonces[0], self.keys.key(offer.account)

    def _note(self, deed: Deed) -> Deed:
        self.store.note(deed)
        self.report(deed)
        return deed


def _too_little(found: TooLittle) -> Idle:
    if found.newest_slot is None:
        return Idle("no-readings")
    if found.days == 0:
        return Idle("old-readings", {"newest": found.newest_slot * SLOT_SECONDS})
    return Idle("few-readings", {"days": found.days, "needed": FEWEST_DAYS})


def _document(order: Order, signature: bytes) -> dict[str, Any]:
    """An order as it is submitted to the relay."""
    return {
        "account": order.account,
        "mandate": order.mandate,
        "nonce": order.nonce,
        "expiry": order.expiry,
        "side": side_name(order.side),
        "limit": order.limit,
        "first_slot": order.first_slot,
        "slots": order.count,
        "wh": list(order.profile),
        "signature": "0x" + signature.hex(),
    }


def owner_signed(node: Node, addresses: Addresses) -> OwnerSigned:
    """Asks the registry who owns the account now; a contract wallet vouches by ERC-1271."""
    registry = addresses["MeterRegistry"]

    def signed(held: HeldOffer) -> bool:
        try:
            owner, _ = node.view(registry, "metering_point(uint256)", held.offer.account)
            return bool(owner) and vouched(node, owner, held.id, held.signature)
        except CheckFailed as error:
            raise Away(str(error)) from error

    return signed


def vouched(node: Node, owner: int, digest: bytes, signature: bytes) -> bool:
    """Whether an owner's key signed, or the owner's contract wallet agrees (ERC-1271).

    owner: the address as a number.
    """
    raw = owner.to_bytes(20, "big")
    try:
        if recover(digest, key_signature(signature)) == raw:
            return True
    except ValueError:
        pass
    wallet = checksum_address(raw)
    return node.has_code(wallet) and node.vouches(wallet, digest, signature)


def check_relay(relay: RelayClient, chain_id: int, market: str) -> None:
    """CheckFailed where the relay works for another chain or market than the deployment's."""
    there = relay.market()
    if (there[0], there[1].lower()) != (chain_id, market.lower()):
        raise CheckFailed(
            f"the relay at {relay.url} works for market {there[1]} on chain {there[0]}, not for "
            f"{market} on chain {chain_id}"
        )
