# SPDX-License-Identifier: Apache-2.0
"""The orders page: every order with its steps, what it got, a receipt for each, and taking back
what has not been posted yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed
from dao.market.session import Rejection
from dao.slots import SLOT_SECONDS
from dashboard import wallet
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.relay import OrderFields, OrderStatus
from dashboard.repositories.trades import CORRECTION, GIVEN_BACK, Movement
from dashboard.services import orders
from dashboard.services.orders import Mark, Name, OrderView, Stage, Step
from dashboard.services.program_words import in_words
from dashboard.services.typed_data import own
from dashboard.views.parts import empty, lead, pill, put, section, table, title
from dashboard.views.resident import (
    Resident,
    evidence_link,
    hash_text,
    notes,
    order_views,
    relay_trouble,
    resident,
    result,
    signed_euro,
    wallet_problem,
)

LIVE_SECONDS = 5.0
SHOWN = 8
OPEN = "orders.open"
OLDER = "orders.older"
SAID = "orders.said."
ASKED = "orders.asked"
# Of the relay's states, those in which an order is not on the chain.
_NOT_POSTED = ("received", "posted", "rejected", "withdrawn", "late")


def draw(context: Context) -> None:
    """The page."""
    title(_("Orders"), _("What you ordered, what became of it, and a receipt for each."))
    held = resident(context, "orders")
    if held is None:
        return
    _said(held)
    signed = _waiting(held)
    _list(held, signed)


# At the relay


def _waiting(held: Resident) -> dict[str, int]:
    """Draw the orders that the relay holds and the chain does not have yet, and those that ended
    there. Returns when it took each of its orders, by digest."""
    relay = held.sources.relay
    if relay is None:
        return {}
    try:
        found = relay.orders(held.account, limit=50).orders
    except CheckFailed as error:
        relay_trouble(error)
        return {}
    signed = {
        one.id: step.at
        for one in found
        for step in one.steps
        if step.step == "received" and step.at is not None
    }
    now = held.context.now
    known = {
        (one.order.session_slot, one.order.mandate, one.order.nonce)
        for one in held.sources.trades.orders([held.account], limit=100)
    }
    # What ended without being posted is shown for two days.
    shown = [
        one
        for one in found
        if one.state in _NOT_POSTED
        and (one.state in ("received", "posted") or _begin(one.order) > now - 2 * 86_400)
        and not any(
            first <= one.order.first_slot < first + 96
            and (mandate, nonce) == (one.order.mandate, one.order.nonce)
            for first, mandate, nonce in known
        )
    ]
    if shown:
        section(_("Not on the chain"), _("Held by the relay, or ended there."))
    for one in shown[:SHOWN]:
        with st.container(border=True):
            put(_relay_card(held.context, one))
            # An answer is taken up where the button stands, so it stays until there is one: by
            # then the relay may know of it already.
            asked = one.id in st.session_state.get(ASKED, ())
            if one.order.mandate == 0 and (one.state == "received" or asked):
                _take_back(held, one)
    return signed


def _begin(order: OrderFields) -> int:
    return order.first_slot * SLOT_SECONDS


def _relay_card(context: Context, one: OrderStatus) -> str:
    words = {
        "received": (_("Waiting to be posted"), "open"),
        "posted": (_("On its way to the chain"), "open"),
        "rejected": (_("Turned away"), "bad"),
        "withdrawn": (_("Taken back"), "plain"),
        "late": (_("Not posted in time"), "bad"),
    }
    name, tone = words.get(one.state, (one.state, "plain"))
    times = {step.step: step.at for step in one.steps}
    signed = Step(Name.SIGNED, Mark.DONE, times.get("received"))
    failed = one.state not in ("received", "posted")
    posted = Step(Name.POSTED, Mark.FAILED if failed else Mark.NOW, times.get("gate"))
    later = [Step(kind, Mark.WAITING) for kind in (Name.CLEARED, Name.DELIVERED, Name.PAID)]
    why = f"<p>{escape(_reason(one.reason))}</p>" if failed else ""
    wh = one.order.wh if isinstance(one.order.wh, tuple) else (one.order.wh,) * one.order.slots
    sells = one.order.side == "ask"
    return (
        f'<article class="gc-order"><header><h3>'
        f"{escape(_order_name(context, sells, one.order.first_slot, one.order.slots))}</h3>"
        f"{pill(name, tone)}</header>"
        f"<p>{escape(_terms(context, sells, sum(wh), one.order.limit))}</p>"
        f"{_life(context, [signed, posted, *later])}{why}</article>"
    )


def _reason(reason: str | None) -> str:
    """Why an order did not make it, in plain words; the relay's own where they are not known."""
    if not reason:
        return _("No money moved.")
    words = {
        "expired": _("It came too late: its time was over."),
        "nonce used": _("Its number was used already, or you took it back."),
        "too many open": _("You had 32 open orders, which is the most."),
        "poor": _("There was not enough free money for it."),
        "bad signature": _("It was not signed by the owner of the metering point."),
        "energy bound": _("Its energy was less or more than the rules allow."),
        "malformed": _("It named quarter-hours outside the session."),
        "unknown account": _("The metering point has no account in this zone."),
        "no mandate": _("The agent had no mandate any more."),
        "beyond mandate": _("It went beyond what the agent may do."),
    }
    plain = reason.lower().replace("_", " ").replace("-", " ")
    return words.get(plain, in_words(reason[:200])) + " " + _("No money moved.")


def _take_back(held: Resident, one: OrderStatus) -> None:
    """Sign away an order's number before it is posted."""
    market, chain_id = held.sources.market, held.sources.chain_id
    if market is None or chain_id is None:
        return
    wanted = {"account": held.account, "nonce": one.order.nonce}
    document = own("revocation", wanted, chain_id=chain_id, contract=market)
    asked: set[str] = st.session_state.setdefault(ASKED, set())
    asked.add(one.id)
    answer = wallet.button(
        _("Take this order back"),
        request=wallet.SignTypedData(
            document,
            held.address,
            wallet.Deliver("/relay/v1/revocations", {**wanted, "signature": "$signature"}),
        ),
        key=f"orders.revoke.{one.id[:18]}",
        kind="secondary",
    )
    if answer is not None and answer.fresh:
        asked.discard(one.id)
        st.session_state[SAID + held.address] = answer
        st.rerun()


def _said(held: Resident) -> None:
    answer: Any = st.session_state.get(SAID + held.address)
    if not isinstance(answer, wallet.Answer):
        return
    if not answer.ok:
        wallet_problem(answer)
        return
    words = _("You took the order back. It is worthless from now on; no money moved.")
    notes([("good", words)])


# On the chain


def _list(held: Resident, signed: Mapping[str, int]) -> None:
    section(_("On the chain"), _("The newest delivery first."))
    skip = int(st.session_state.get(OLDER, 0))
    posted = held.sources.trades.orders([held.account], limit=min(500, skip + SHOWN + 1))
    if not posted:
        empty(
            _("No orders yet"),
            _("Sell or buy on the Trade page; the order and all that follows appears here."),
        )
        _rejected(held)
        return
    views = order_views(held, posted[skip : skip + SHOWN])
    opened = st.session_state.get(OPEN)
    for one in views:
        assert one.key is not None
        is_open = opened == one.key
        taken = signed.get(_digest(held, one) or "")
        with st.container(border=True):
            put(_card(held.context, one, taken))
            st.button(
                _("Close receipt") if is_open else _("Receipt"),
                key=f"orders.receipt.{one.key[0]}.{one.key[1]}",
                on_click=_open,
                args=(None if is_open else one.key,),
            )
            if is_open:
                _receipt(held, one, taken)
    with st.container(horizontal=True):
        if skip:
            st.button(_("Newer"), key="orders.newer", on_click=_page, args=(skip - SHOWN,))
        if len(posted) > skip + SHOWN and skip + SHOWN < 490:
            st.button(_("Older"), key="orders.older.button", on_click=_page, args=(skip + SHOWN,))
    _rejected(held)
    _corrections(held)


def _digest(held: Resident, one: OrderView) -> str | None:
    market, chain_id = held.sources.market, held.sources.chain_id
    if market is None or chain_id is None:
        return None
    return orders.digest_of(one.order, chain_id, market)


def _open(key: tuple[int, int] | None) -> None:
    st.session_state[OPEN] = key


def _page(skip: int) -> None:
    st.session_state[OLDER] = max(0, skip)
    st.session_state.pop(OPEN, None)


def _card(context: Context, one: OrderView, taken: int | None) -> str:
    name, tone = _stage(one)
    wh = one.order.total_wh
    steps = [replace(one.steps[0], at=taken), *one.steps[1:]]
    by_agent = _("by your agent") if one.order.mandate else ""
    head = _order_name(context, one.sells, one.order.first_slot, one.order.count)
    return (
        f'<article class="gc-order"><header><h3>{escape(head)}</h3>{pill(name, tone)}</header>'
        f"<p>{escape(_terms(context, one.sells, wh, one.order.limit))}</p>"
        f"{_life(context, steps, by_agent)}<p>{_outcome(context, one)}</p></article>"
    )


def _order_name(context: Context, sells: bool, first_slot: int, slots: int) -> str:
    fmt = context.fmt
    begin = first_slot * SLOT_SECONDS
    words = _("Sale, {begin} to {end}") if sells else _("Purchase, {begin} to {end}")
    return words.format(begin=fmt.moment(begin), end=fmt.time(begin + slots * SLOT_SECONDS))


def _terms(context: Context, sells: bool, wh: int, limit: int) -> str:
    words = (
        _("{energy} for at least {price}")
        if sells
        else _("{energy} for at most {price}, fee included")
    )
    return words.format(energy=context.fmt.kwh(wh, 2), price=context.fmt.ct(limit))


def _stage(one: OrderView) -> tuple[str, str]:
    if one.stage is Stage.PAID:
        return (_("Paid"), "good")
    if one.stage is Stage.SOLD:
        return (_("Sold") if one.sells else _("Bought"), "good")
    if one.stage is Stage.EMPTY:
        return (_("Not filled"), "plain")
    if one.stage is Stage.VOID:
        return (_("Session void"), "plain")
    return (_("In the book"), "open")


def _life(context: Context, steps: Sequence[Step], signer: str = "") -> str:
    """The five steps of an order, each with its time; signer: who signed, where it says more."""
    names = {
        Name.SIGNED: _("Signed"),
        Name.POSTED: _("Posted"),
        Name.CLEARED: _("Cleared"),
        Name.DELIVERED: _("Delivered"),
        Name.PAID: _("Paid"),
    }
    said = {
        Mark.DONE: _("done"),
        Mark.NOW: _("under way"),
        Mark.WAITING: _("to come"),
        Mark.FAILED: _("did not happen"),
        Mark.SKIPPED: _("nothing to do"),
    }
    parts = []
    for one in steps:
        at = context.fmt.moment(one.at) if one.at is not None else said[one.mark]
        if one.name is Name.SIGNED and signer:
            at = signer
        if one.at is not None and one.mark in (Mark.NOW, Mark.WAITING):
            at = _("until {time}").format(time=at)
        parts.append(
            f'<li class="{one.mark.value}"><b>{escape(names[one.name])}</b>'
            f'<span title="{escape(said[one.mark])}">{escape(at)}</span></li>'
        )
    return (
        f'<ol class="gc-life" aria-label="{escape(_("Steps of the order"))}">{"".join(parts)}</ol>'
    )


def _outcome(context: Context, one: OrderView) -> str:
    """What came of it, as HTML."""
    fmt = context.fmt
    if one.net is not None and one.filled_wh:
        delivered = fmt.kwh(one.delivered_wh or 0, 2)
        filled, asked = fmt.kwh(one.filled_wh, 2), fmt.kwh(one.order.total_wh, 2)
        words = (
            _("{filled} of {asked} sold, {delivered} delivered.")
            if one.sells
            else _("{filled} of {asked} bought, {delivered} delivered.")
        ).format(filled=filled, asked=asked, delivered=delivered)
        money = _("Your balance changed by {money}.")
        before, _mark, after = money.partition("{money}")
        text = f"{escape(words)} {escape(before)}{result(context, one.net)}{escape(after)}"
        if one.better is not None and one.delivered_wh:
            against = (
                _("Against the feed-in tariff: {money}.")
                if one.sells
                else _("Against retail, if you used it all: {money}.")
            )
            before, _mark, after = against.partition("{money}")
            text += f" {escape(before)}{result(context, one.better)}{escape(after)}"
        if one.penalty:
            penalty = (
                _("A penalty of {amount} is in it.")
                if one.sells
                else _("Penalties of {amount} from sellers who fell short are in it.")
            )
            text += " " + escape(penalty.format(amount=fmt.euro(one.penalty)))
        return text
    if one.net is not None:
        return escape(
            _("Nothing was traded; the {escrow} held came back in full.").format(
                escrow=fmt.euro(one.escrow)
            )
        )
    if one.filled_wh:
        words = (
            _("{filled} of {asked} sold. {escrow} is held until the meters have proved delivery.")
            if one.sells
            else _("{filled} of {asked} bought. {escrow} is held until delivery is proved.")
        )
        return escape(
            words.format(
                filled=fmt.kwh(one.filled_wh, 2),
                asked=fmt.kwh(one.order.total_wh, 2),
                escrow=fmt.euro(one.escrow),
            )
        )
    return escape(
        _("{escrow} is held; what is not needed comes back with settlement.").format(
            escrow=fmt.euro(one.escrow)
        )
    )


def _rejected(held: Resident) -> None:
    found = held.sources.trades.turned_away([held.account], limit=5)
    if not found:
        return
    section(_("Turned away by the contract"), _("No money moved for these."))
    rows = []
    for one in found:
        try:
            reason = Rejection(one.reason).name
        except ValueError:
            reason = ""
        rows.append(
            {
                _("When"): held.context.fmt.moment(one.at),
                _("Why"): _reason(reason),
                _("Transaction"): f"{one.tx[:10]}…",
            }
        )
    put(table(pd.DataFrame(rows), _("Orders that were turned away"), set()))


def _corrections(held: Resident) -> None:
    found = held.sources.trades.movements(held.account, kinds=[GIVEN_BACK, CORRECTION], limit=20)
    if not found:
        return
    section(
        _("Corrected after settlement"),
        _("A meter took back something that it had proved; the seller gave the price back."),
    )
    put(
        table(
            pd.DataFrame([_correction(held.context, one) for one in found]),
            _("Corrections after settlement"),
            {_("Energy"), _("Money")},
        )
    )


def _correction(context: Context, one: Movement) -> dict[str, str]:
    fmt = context.fmt
    return {
        _("Recorded"): fmt.moment(one.at),
        _("Quarter-hour"): fmt.moment((one.slot or 0) * SLOT_SECONDS),
        _("Energy"): fmt.kwh(one.wh or 0, 2),
        _("Money"): signed_euro(context, one.amount),
        _("Transaction"): f"{one.tx[:10]}…",
    }


# The receipt


def _receipt(held: Resident, one: OrderView, taken: int | None) -> None:
    """An order with every slot, every transaction, and files to keep."""
    context = held.context
    fmt = context.fmt
    if one.fills:
        dash = "–"

        def energy(wh: int | None) -> str:
            return dash if wh is None else fmt.kwh(wh, 3)

        def cents(micro: int | None) -> str:
            return dash if micro is None else fmt.number(micro / 10_000, 2)

        rows = [
            {
                _("From"): fmt.time(fill.slot * SLOT_SECONDS),
                _("Ordered"): energy(fill.wanted_wh),
                _("Filled"): energy(fill.filled_wh),
                _("Price"): fmt.ct(fill.price),
                _("Delivered"): energy(fill.delivered_wh),
                _("Paid (ct)"): cents(fill.paid),
                _("Penalty (ct)"): cents(fill.penalty),
            }
            for fill in one.fills
        ]
        put(
            table(
                pd.DataFrame(rows),
                _("What the order got in each quarter-hour"),
                set(list(rows[0])[1:]),
                {dash},
            )
        )
        if any(fill.paid is None for fill in one.fills) and one.net is not None:
            lead(
                _(
                    "Where several sellers fell short in one quarter-hour, the events tell only "
                    "the sum of each order: the change of your balance above is exact."
                )
            )
    elif not one.fills_agree:
        notes([("bad", _("The fills worked out here differ from the chain's sums: tell us."))])
    market, chain_id = held.sources.market, held.sources.chain_id
    if market is None or chain_id is None:
        return
    document = orders.receipt(
        one,
        chain_id=chain_id,
        market=market,
        zone=context.zone,
        signed_at=taken,
    )
    steps = [step for step in document["steps"] if step["transaction"]]
    words = {"posted": _("Posted"), "cleared": _("Cleared"), "paid": _("Paid")}
    put(
        '<dl class="gc-pairs">'
        + "".join(
            f"<div><dt>{escape(words.get(step['step'], step['step']))}</dt>"
            f"<dd><small>{hash_text(step['transaction'])}</small></dd></div>"
            for step in steps
        )
        + f"<div><dt>{escape(_('Digest that was signed'))}</dt>"
        f"<dd><small>{hash_text(document['order_digest'])}</small></dd></div></dl>"
    )
    lead(
        ngettext(
            "The files carry the whole hash of {number} transaction, and how to check it.",
            "The files carry the whole hashes of {number} transactions, and how to check them.",
            len(steps),
        ).format(number=len(steps))
    )
    base = orders.receipt_name(document)
    with st.container(horizontal=True):
        st.download_button(
            _("Receipt as JSON"),
            json.dumps(document, indent=2),
            file_name=f"{base}.json",
            mime="application/json",
            key="orders.json",
        )
        st.download_button(
            _("Receipt as CSV"),
            orders.receipt_csv(document),
            file_name=f"{base}.csv",
            mime="text/csv",
            key="orders.csv",
        )
    if one.key is not None:
        lead(
            _(
                "Does something look wrong? The evidence gathers your meter's signed readings, "
                "the relay's promise and the chain's transactions, and says what can still be "
                "done, by whom and until when."
            )
        )
        put(f'<p class="gc-files">{evidence_link(context, held.account, one.key)}</p>')
