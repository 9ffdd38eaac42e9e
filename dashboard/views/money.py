# SPDX-License-Identifier: Apache-2.0
"""The money page: what is free and what is held, paying in and out, and every movement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS
from dashboard import wallet
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.relay import RelayAway, RelayClient
from dashboard.repositories.trades import (
    CORRECTION,
    DEPOSIT,
    ESCROW,
    GIVEN_BACK,
    SETTLEMENT,
    WITHDRAWAL,
    Movement,
)
from dashboard.services import money
from dashboard.services.money import Line, Proof, Standing
from dashboard.services.program_words import in_words
from dashboard.services.typed_data import checked, deadline
from dashboard.views.parts import (
    Figure,
    empty,
    error_box,
    figures,
    lead,
    put,
    section,
    table,
    title,
    together,
)
from dashboard.views.resident import (
    Resident,
    no_relay,
    notes,
    relay_trouble,
    resident,
    signed_euro,
    wallet_problem,
)

LIVE_SECONDS = 3.0
ROWS = 40
FILE_ROWS = 500
SAID = "money.said."


def draw(context: Context) -> None:
    """The page."""
    title(_("Money"), _("What you have in the market, and every movement of it."))
    held = resident(context, "money")
    if held is None:
        return
    _standing(held)
    _said(held)
    left, right = st.columns(2, gap="large")
    with left:
        _deposit(held)
    with right:
        _withdraw(held)
    _requests(held)
    with together():
        moves = _history(held)
    if moves:
        _files(held, moves)


def _now(held: Resident) -> Standing:
    """What the account has, from the chain where a node can tell, else from the events."""
    sources = held.sources
    told = sources.balance(held.account)
    free = sources.trades.balance(held.account) if told is None else told.amount
    waiting = 0
    if sources.relay is not None:
        try:
            state = sources.relay.account(held.account)
            waiting = max(0, state.balance - state.available)
        except CheckFailed:
            waiting = 0
    return Standing(
        free=free,
        waiting=waiting,
        escrowed=sources.trades.escrowed(held.account),
        purse=sources.purse(held.address),
    )


@st.fragment(run_every=LIVE_SECONDS)
def _standing(held: Resident) -> None:
    try:
        fresh = held.renewed()
        standing = _now(fresh)
    except GridCommonsError:
        error_box(
            _("Your balance cannot be read just now."),
            _("The money is on the chain and safe."),
            _("This page tries again by itself."),
        )
        return
    fmt = held.context.fmt
    note = _("to order with, or to pay out")
    if standing.waiting:
        note = _("{amount} of it is spoken for by what waits at the relay").format(
            amount=fmt.euro(standing.waiting)
        )
    purse = "–" if standing.purse is None else fmt.euro(standing.purse)
    figures(
        [
            Figure(_("Free"), fmt.euro(standing.free), note),
            Figure(
                _("Held by open orders"),
                fmt.euro(standing.escrowed),
                _("comes back when they are settled"),
            ),
            Figure(_("In your own wallet"), purse, _("outside the market, to pay in")),
        ]
    )


# In and out


def _deposit(held: Resident) -> None:
    context = held.context
    section(_("Pay in"), _("From your wallet to your balance in the market."))
    purse = held.sources.purse(held.address)
    if purse == 0:
        empty(
            _("Your wallet holds no euro tokens"),
            _("Whoever issues them for your community can send you some."),
        )
        return
    top = None if purse is None else purse / 1_000_000
    typed = st.number_input(
        _("Amount to pay in, in euro"),
        min_value=0.0,
        max_value=top,
        value=None,
        step=1.0,
        format="%.2f",
        placeholder=_("for example 20.00"),
        key="money.deposit.amount",
    )
    amount = money.amount_of(typed)
    if not amount:
        lead(_("You sign once; the relay brings it to the chain and pays the fee of the chain."))
        return
    if held.sources.relay is None:
        no_relay()
    else:
        _signed(
            held,
            held.sources.relay,
            kind="permit",
            plural="deposits",
            wanted={
                "owner": held.address,
                "spender": held.sources.market,
                "value": amount,
            },
            asked={"account": held.account, "amount": amount},
            contract=held.sources.token,
            label=_("Sign and pay in {amount}").format(amount=context.fmt.euro(amount)),
            key="money.deposit.sign",
        )
    with st.expander(_("Without the relay, with your own gas")):
        _own_deposit(held, amount)


def _own_deposit(held: Resident, amount: int) -> None:
    """Two plain transactions, for those who have gas on this chain."""
    sources = held.sources
    if sources.market is None or sources.token is None or sources.chain_id is None:
        return
    chain = sources.chain_id
    lead(_("Two transactions that you pay for yourself: allow the amount, then pay it in."))
    allowed = sources.allowance(held.address) or 0
    first = wallet.button(
        _("1. Allow {amount}").format(amount=held.context.fmt.euro(amount)),
        request=wallet.SendTransaction(
            sources.token,
            money.approve_data(sources.market, amount),
            account=held.address,
            chain=chain,
        ),
        key="money.deposit.allow",
        kind="secondary",
        disabled=allowed >= amount,
    )
    second = wallet.button(
        _("2. Pay {amount} in").format(amount=held.context.fmt.euro(amount)),
        request=wallet.SendTransaction(
            sources.market,
            money.deposit_data(held.account, amount),
            account=held.address,
            chain=chain,
        ),
        key="money.deposit.pay",
        kind="secondary",
        disabled=allowed < amount,
    )
    for answer in (first, second):
        if answer is not None and answer.fresh:
            st.session_state[SAID + held.address] = ("transaction", answer)
            st.rerun()


def _withdraw(held: Resident) -> None:
    context = held.context
    section(_("Pay out"), _("From your balance to your wallet. Nothing can stop it."))
    standing = _now(held)
    if not standing.available:
        empty(
            _("Nothing is free to pay out"),
            _("What open orders hold comes back when they are settled."),
        )
        return
    typed = st.number_input(
        _("Amount to pay out, in euro"),
        min_value=0.0,
        max_value=standing.available // money.CENT / 100,
        value=None,
        step=1.0,
        format="%.2f",
        placeholder=_("for example 20.00"),
        key="money.withdraw.amount",
    )
    amount = money.amount_of(typed)
    if not amount:
        lead(
            _("It goes to {address}, the wallet that you signed in with.").format(
                address=f"{held.address[:8]}…{held.address[-6:]}"
            )
        )
        return
    if held.sources.relay is None:
        no_relay()
        return
    fields = {"account": held.account, "amount": amount, "to": held.address}
    _signed(
        held,
        held.sources.relay,
        kind="withdrawal",
        plural="withdrawals",
        wanted=fields,
        asked=fields,
        contract=held.sources.market,
        label=_("Sign and pay out {amount}").format(amount=context.fmt.euro(amount)),
        key="money.withdraw.sign",
    )


def _signed(
    held: Resident,
    relay: RelayClient,
    *,
    kind: str,
    plural: str,
    wanted: Mapping[str, Any],
    asked: Mapping[str, Any],
    contract: str | None,
    label: str,
    key: str,
) -> None:
    """A button that signs what the relay offers for `asked`, if it says what is `wanted`."""
    chain_id = held.sources.chain_id
    if contract is None or chain_id is None:
        relay_trouble(CheckFailed("no deployment"))
        return
    until = {"deadline": deadline(held.context.now)}
    try:
        document = checked(
            relay.typed_data(kind, {**asked, **until}),
            kind,
            {**wanted, **until},
            chain_id=chain_id,
            contract=contract,
            now=held.context.now,
        )
    except CheckFailed as error:
        relay_trouble(error)
        return
    nonce = int(document["message"]["nonce"])
    body = {**asked, **until, "nonce": nonce, "signature": "$signature"}
    answer = wallet.button(
        label,
        request=wallet.SignTypedData(
            document, held.address, wallet.Deliver(f"/relay/v1/{plural}", body)
        ),
        key=key,
    )
    if answer is not None and answer.fresh:
        st.session_state[SAID + held.address] = (plural, answer)
        st.rerun()


def _said(held: Resident) -> None:
    """How the last signature ended."""
    said: Any = st.session_state.get(SAID + held.address)
    if not (isinstance(said, tuple) and len(said) == 2 and isinstance(said[1], wallet.Answer)):
        return
    kind, answer = said
    if not answer.ok:
        wallet_problem(answer)
        return
    if kind == "transaction":
        words = _("Your wallet sent it. The balance follows as soon as the chain has it.")
    elif kind == "deposits":
        words = _("Signed and safe at the relay. The money arrives within seconds.")
    else:
        words = _("Signed and safe at the relay. The money is on its way to your wallet.")
    notes([("good", words)])


@st.fragment(run_every=LIVE_SECONDS)
def _requests(held: Resident) -> None:
    """What was signed lately and is being carried, or failed."""
    if held.sources.relay is None:
        return
    try:
        found = held.sources.relay.requests(held.account).requests
    except RelayAway:
        return
    except CheckFailed as error:
        relay_trouble(error)
        return
    shown = [one for one in found if one.kind in ("deposit", "withdrawal", "revocation")][:6]
    if not shown:
        return
    kinds = {
        "deposit": _("Pay in"),
        "withdrawal": _("Pay out"),
        "revocation": _("Order taken back"),
    }
    states = {
        "received": _("at the relay"),
        "sent": _("on its way to the chain"),
        "done": _("done"),
        "failed": _("failed"),
    }
    fmt = held.context.fmt
    rows = [
        {
            _("What"): kinds[one.kind],
            _("Signed"): fmt.moment(one.received_at),
            _("State"): states.get(one.state, one.state)
            + (f": {in_words(one.reason[:120])}" if one.reason and one.state == "failed" else ""),
            _("Transaction"): f"{one.transaction[:10]}…" if one.transaction else "–",
        }
        for one in shown
    ]
    with together():
        section(_("Signed lately"))
        put(table(pd.DataFrame(rows), _("What you signed lately"), set(), {"–"}))


# History


def _history(held: Resident) -> list[Movement]:
    """The newest movements as a table; returns all that the files hold."""
    context, trades = held.context, held.sources.trades
    fmt = context.fmt
    section(_("Every movement"), _("From the chain's own events, the newest first."))
    moves = trades.movements(held.account, limit=FILE_ROWS)
    if not moves:
        empty(_("Nothing has moved yet"), _("Pay in, and the first line appears here."))
        return moves
    shown = money.lines(moves[:ROWS], money.held_orders(moves))
    rows = [
        {
            _("When"): fmt.moment(one.movement.at),
            _("What"): _what(context, one),
            _("Change"): signed_euro(context, one.movement.amount),
            _("Balance"): fmt.euro(one.movement.balance),
            _("Transaction"): f"{one.movement.tx[:10]}…",
        }
        for one in shown
    ]
    history = table(pd.DataFrame(rows), _("Movements of your balance"), {_("Change"), _("Balance")})
    put(f'<div class="gc-moves">{history}</div>')
    if len(moves) > ROWS:
        lead(
            ngettext(
                "The file holds {number} movement.",
                "The file holds {number} movements.",
                len(moves),
            ).format(number=len(moves))
        )
    told = held.sources.balance(held.account)
    proof = Proof(
        summed=trades.balance(held.account),
        on_chain=None if told is None else told.amount,
        block=held.sources.reached.block,
        same_block=told is None or told.same_block,
    )
    _proof(held, proof)
    return moves


def _files(held: Resident, moves: list[Movement]) -> None:
    name = f"movements-{held.account}"
    with st.container(horizontal=True):
        st.download_button(
            _("Movements as CSV"),
            money.statement_csv(moves),
            file_name=f"{name}.csv",
            mime="text/csv",
            key="money.csv",
        )
        st.download_button(
            _("Movements as JSON"),
            json.dumps(money.statement(moves), indent=2),
            file_name=f"{name}.json",
            mime="application/json",
            key="money.json",
        )


def _proof(held: Resident, proof: Proof) -> None:
    fmt = held.context.fmt
    summed = fmt.number(proof.summed / 1_000_000, 6)
    if proof.agrees:
        lead(
            _(
                "All movements come to €{amount}, exactly what the contract says at block {block}."
            ).format(amount=summed, block=fmt.number(proof.block or 0))
        )
    elif proof.on_chain is None:
        lead(
            _("All movements come to €{amount}. No node can be asked to compare it with.").format(
                amount=summed
            )
        )
    elif proof.agrees is None:
        lead(
            _(
                "All movements up to block {block} come to €{amount}; the chain is a little ahead "
                "and says €{chain}."
            ).format(
                amount=summed,
                block=fmt.number(proof.block or 0),
                chain=fmt.number(proof.on_chain / 1_000_000, 6),
            )
        )
    else:
        error_box(
            _("The movements come to €{amount}, the contract says €{chain}.").format(
                amount=summed, chain=fmt.number(proof.on_chain / 1_000_000, 6)
            ),
            _("What the contract says counts, and the money is there."),
            _("The record is still being read, or it has a gap: look again in a minute."),
        )


def _what(context: Context, one: Line) -> str:
    fmt, move = context.fmt, one.movement
    when = fmt.moment((move.session or 0) * SLOT_SECONDS)
    if move.kind == DEPOSIT:
        return _("Paid in")
    if move.kind == WITHDRAWAL:
        party = move.party or ""
        return _("Paid out to {address}").format(address=f"{party[:8]}…{party[-4:]}")
    if move.kind == ESCROW:
        return _("Held for an order, delivery from {time}").format(time=when)
    if move.kind == SETTLEMENT:
        if one.result is None:
            return _("Settled, delivery from {time}").format(time=when)
        return _("Settled, delivery from {time}: {result} in all").format(
            time=when, result=signed_euro(context, one.result)
        )
    slot = fmt.moment((move.slot or 0) * SLOT_SECONDS)
    if move.kind == GIVEN_BACK:
        return _("Given back for {time}: your meter took energy back").format(time=slot)
    if move.kind == CORRECTION:
        return _("Got back for {time}: a seller's meter took energy back").format(time=slot)
    return move.kind
