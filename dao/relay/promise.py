# SPDX-License-Identifier: Apache-2.0
"""The relay's promise to post an order before a time, signed, and whether it was kept.

Anyone who holds a promise can check it against the chain: every posted order, accepted or turned
away, stands in an event. How promises come to be made is `intake`'s, how they are kept `posting`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

from dao import abi
from dao.chain import Account, Chain, Contract, LocalAccount
from dao.eip712 import (
    address_word,
    checksum_address,
    digest,
    domain_separator,
    keccak,
    recover,
    sign_digest,
    typed_frame,
    word,
)
from dao.errors import BadUse
from dao.market.orders import InvalidOrder, Order, market_separator, order_digest, unpack
from dao.market.session import Rejection, read_book, session_key

DOMAIN_NAME = "GridCommons Relay"
DOMAIN_VERSION = "1"
PROMISE_TYPE = (
    "PostingPromise(bytes32 order,uint32 account,uint64 session,uint40 postBefore,address market)"
)
PROMISE_TYPEHASH = keccak(PROMISE_TYPE.encode("ascii"))


@dataclass(frozen=True)
class Promise:
    """To post an order to its session before a time.

    order: the order's EIP-712 digest; account: its metering point; session: the session's first
    slot; post_before: unix seconds, the gate; market: address of the EnergyMarket.
    """

    order: bytes
    account: int
    session: int
    post_before: int
    market: str


class Verdict(StrEnum):
    """What became of a promise. `released`: its owner took the order back, or the market was
    paused at the gate."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_YET_DUE = "not yet due"
    RELEASED = "released"


@dataclass(frozen=True)
class Posting:
    """An order as the chain shows it was posted; rejection None where it was accepted."""

    id: bytes
    order: Order
    rejection: Rejection | None
    block: int


def promise_digest(chain_id: int, promise: Promise) -> bytes:
    """The 32 bytes the relay signs."""
    separator = domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, promise.market)
    return digest(
        separator,
        keccak(
            PROMISE_TYPEHASH
            + promise.order
            + word(promise.account)
            + word(promise.session)
            + word(promise.post_before)
            + address_word(promise.market)
        ),
    )


def typed_data(chain_id: int, promise: Promise) -> dict[str, Any]:
    """The promise as `eth_signTypedData_v4` takes it."""
    return {
        **typed_frame(PROMISE_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain_id, promise.market),
        "message": {
            "order": "0x" + promise.order.hex(),
            "account": promise.account,
            "session": promise.session,
            "postBefore": promise.post_before,
            "market": promise.market,
        },
    }


def sign(chain_id: int, promise: Promise, relay: Account) -> bytes:
    """The relay's signature of a promise, 65 bytes r || s || v.

    Raises CheckFailed where the relay's account does not sign by itself.
    """
    if isinstance(relay, LocalAccount):
        return sign_digest(relay.key, promise_digest(chain_id, promise))
    return relay.sign_typed(typed_data(chain_id, promise))


def signer(chain_id: int, promise: Promise, signature: bytes) -> str:
    """The address that made the promise. BadUse for a signature that is none."""
    try:
        return checksum_address(recover(promise_digest(chain_id, promise), signature))
    except ValueError as error:
        raise BadUse(f"promise: {error}") from None


def postings(market: Contract, zone: int, session: int, first_block: int = 0) -> list[Posting]:
    """Every order that was posted to a session, in chain order, those turned away among them.

    Accepted orders stand in the events. An event names of an order that was turned away only its
    place in the batch: the order itself is read from the transaction, where that was sent to the
    market itself.
    """
    chain, interface = market.chain, market.interface
    topics = [interface.topic("OrdersPosted"), interface.topic("OrderRejected")]
    logs = chain.rpc(
        "eth_getLogs",
        {
            "address": market.address,
            "fromBlock": hex(first_block),
            "toBlock": "latest",
            "topics": [topics, f"0x{session_key(zone, session):064x}"],
        },
    )
    found: list[Posting] = []
    for tx, group in groupby(logs, key=lambda log: log["transactionHash"]):
        events = [event for log in group if (event := chain.decode_log(log)) is not None]
        pages = b"".join(event.args["page"] for event in events if event.name == "OrdersPosted")
        block = events[0].block
        accepted = [(order, None) for order in unpack(_words(pages), session)]
        turned_away = [event.args for event in events if event.name == "OrderRejected"]
        batch = _batch(market, tx, session) if turned_away else ()
        refused = [
            (batch[args["position"]], Rejection(args["reason"]))
            for args in turned_away
            if args["position"] < len(batch)
        ]
        for order, rejection in accepted + refused:
            if (number := _id(market, order)) is not None:
                found.append(Posting(number, order, rejection, block))
    return found


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32)]


def _batch(market: Contract, tx: str, session: int) -> list[Order]:
    """The orders of a transaction that posted to the market; none where it is another."""
    sent = market.chain.rpc("eth_getTransactionByHash", tx)
    (post,) = [one for one in market.interface.abi if one.get("name") == "post"]
    data = bytes.fromhex(sent["input"][2:])
    selector = keccak(abi.signature(post).encode("ascii"))[:4]
    if str(sent["to"]).lower() != market.address.lower() or data[:4] != selector:
        return []
    _, _, _, rows, batch = abi.decode(post["inputs"], data[4:])
    try:
        return unpack(batch[:rows], session)
    except InvalidOrder:
        return []


def _id(market: Contract, order: Order) -> bytes | None:
    """An order's digest, None for one that nobody can have signed."""
    try:
        return order_digest(market_separator(market.chain.chain_id, market.address), order)
    except InvalidOrder:
        return None


def block_time(chain: Chain, number: int) -> int:
    """A block's time, unix seconds."""
    block: Mapping[str, str] = chain.rpc("eth_getBlockByNumber", hex(number), False)
    return int(block["timestamp"], 16)


def taken_back(market: Contract, orders: Sequence[Order], first_block: int = 0) -> dict[Order, int]:
    """The orders among these whose owner revoked their number, or ended their mandate, with the
    block of the last time."""
    if not orders:
        return {}
    accounts = sorted({order.account for order in orders})
    topics = [market.interface.topic(name) for name in ("NonceRevoked", "MandateEnded")]
    events = market.chain.logs(
        [market.address],
        first_block,
        topics=[topics, [f"0x{account:064x}" for account in accounts]],
    )
    blocks = {
        (event.name, event.args["account"], event.args.get("nonce", event.args.get("number"))): (
            event.block
        )
        for event in events
    }
    found = {}
    for order in orders:
        if order.mandate:
            block = blocks.get(("MandateEnded", order.account, order.mandate))
        else:
            block = blocks.get(("NonceRevoked", order.account, order.nonce))
        if block is not None:
            found[order] = block
    return found


def _gate_in_pause(market: Contract, gate: int, first_block: int) -> bool:
    """Whether the market was paused at a gate: then the session is void and takes no order."""
    events = market.chain.logs(
        [market.address], first_block, topics=[market.interface.topic("Paused")]
    )
    return any(
        block_time(market.chain, event.block) <= gate < event.args["until"] for event in events
    )


def verdict(
    promise: Promise,
    market: Contract,
    zone: int,
    *,
    order: Order | None = None,
    first_block: int = 0,
) -> Verdict:
    """Whether a promise was kept, as the chain stands now; who made it, `signer` says.

    Posted in time is kept, whether the order was then accepted or turned away. order: the order
    itself, which only its owner and the relay know before it is posted; with it, an owner who
    took it back in time releases the relay, as a pause at the gate does in any case. Raises BadUse
    where the order is another, CheckFailed where the node leaves events out.
    """
    if promise.market != market.address:
        raise BadUse(f"promise: of market {promise.market}; this one is {market.address}")
    if order is not None and _id(market, order) != promise.order:
        raise BadUse("order: not the one that was promised")
    chain = market.chain
    # The time first: an order that is posted meanwhile is then at worst found early.
    now = chain.now()
    blocks = [
        one.block
        for one in postings(market, zone, promise.session, first_block)
        if one.id == promise.order
    ]
    if any(block_time(chain, block) < promise.post_before for block in blocks):
        return Verdict.KEPT
    back = taken_back(market, [order] if order is not None else [], first_block)
    if any(block_time(chain, block) < promise.post_before for block in back.values()):
        return Verdict.RELEASED
    if _gate_in_pause(market, promise.post_before, first_block):
        return Verdict.RELEASED
    if now < promise.post_before:
        return Verdict.NOT_YET_DUE
    # Nobody is accused on the word of a node that keeps a part of the book back.
    read_book(market, zone, promise.session)
    return Verdict.BROKEN
