# SPDX-License-Identifier: Apache-2.0
"""What the resident's pages have in common: whose home it is, where its data comes from, and how a
wallet's answer is told. The pages themselves are `home`, `trade`, `orders` and `money`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import streamlit as st

from dao.errors import CheckFailed, GridCommonsError
from dashboard import wallet
from dashboard.context import Context
from dashboard.i18n import _
from dashboard.repositories.relay import RelayAway, RelayClient, RelayOdd, RelayRefused
from dashboard.repositories.sources import Sources, sources
from dashboard.repositories.trades import Posted
from dashboard.services.home import own_account
from dashboard.services.known import session
from dashboard.services.orders import OrderView
from dashboard.services.orders import view as order_view
from dashboard.services.program_words import in_words
from dashboard.services.typed_data import NotAsAsked
from dashboard.views.parts import empty, error_box, lead, put

STYLE = """<style>
.gc-figures {{ grid-template-columns: repeat(auto-fit, minmax(min(13rem, 46%), 1fr)); }}
.gc-table td.num {{ white-space: nowrap; }}
.gc-life {{ display: grid; grid-template-columns: repeat(5, 1fr); gap: .35rem; list-style: none;
  margin: .7rem 0 .2rem !important; padding: 0 !important; }}
.gc-life li {{ margin: 0 !important; padding: .38rem 0 0; border-top: 4px solid {line};
  font-size: .86rem; color: {muted}; line-height: 1.25; overflow-wrap: anywhere; }}
.gc-life li b {{ display: block; font-weight: 600; color: inherit; }}
.gc-life li.done {{ border-color: {green}; }}
.gc-life li.done b {{ color: {ink}; }}
.gc-life li.now {{ border-color: {amber}; }}
.gc-life li.now b {{ color: {ink}; }}
.gc-life li.failed {{ border-color: {red}; }}
.gc-life li.failed b {{ color: {red}; }}
.gc-life li.skipped {{ border-top-style: dotted; }}
.gc-order header {{ display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: baseline; }}
.gc-order h3 {{ font-size: 1.08rem; margin: 0; padding: 0; font-weight: 650; }}
.gc-order p {{ margin: .35rem 0 0; }}
.gc-pairs small {{ font-size: .9rem; }}
.gc-notes {{ list-style: none; margin: .4rem 0 0 !important; padding: 0 !important; }}
.gc-notes li {{ margin: 0 0 .4rem !important; padding: .55rem .9rem; border-radius: .5rem;
  background: {amber_soft}; color: {ink}; }}
.gc-notes li.bad {{ background: {red_soft}; }}
.gc-notes li.good {{ background: {green_soft}; }}
.gc-result {{ font-variant-numeric: tabular-nums; font-weight: 650; }}
.gc-result.up {{ color: {green}; }}
.gc-result.down {{ color: {red}; }}
.gc-files {{ display: flex; flex-wrap: wrap; gap: .6rem; margin: .4rem 0 .8rem; }}
.gc-file {{ display: inline-block; padding: .45rem .95rem; border: 1px solid {line};
  border-radius: .5rem; color: {ink} !important; text-decoration: none !important;
  font-weight: 500; }}
.gc-file:hover, .gc-file:focus-visible {{ border-color: {green}; color: {green} !important; }}
.gc-file.main {{ border-color: {green}; color: {green} !important; }}
.gc-hash {{ font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }}
@media (max-width: 760px) {{
  .gc-moves th:last-child, .gc-moves td:last-child {{ display: none; }}
  .gc-figures div:last-child:nth-child(odd) {{ grid-column: 1 / -1; }}
  .gc-life {{ grid-template-columns: 1fr; gap: .3rem; }}
  .gc-life li {{ border-top: 0; border-left: 4px solid {line}; padding: 0 0 0 .6rem;
    display: flex; justify-content: space-between; gap: .8rem; }}
  .gc-life li.done {{ border-color: {green}; }}
  .gc-life li.now {{ border-color: {amber}; }}
  .gc-life li.failed {{ border-color: {red}; }}
  .gc-life li.skipped {{ border-left-style: dotted; }}
}}
</style>"""


JUST_NOW_S = 1.0
"""So old may be what a fragment takes for new: what its page has read a moment before."""


@dataclass(frozen=True)
class Resident:
    """A page's visitor: the context, the sources, and the metering point that is looked at.
    read_at: when they were read, in seconds of the machine's monotonic clock."""

    context: Context
    sources: Sources
    account: int
    read_at: float = field(default_factory=time.monotonic)

    @property
    def address(self) -> str:
        assert self.context.person is not None
        return self.context.person.address

    def renewed(self) -> Resident:
        """The same with time and chain read anew, unless that was just now."""
        if time.monotonic() - self.read_at < JUST_NOW_S:
            return self
        fresh = self.context.renewed()
        return Resident(fresh, sources(fresh.settings, fresh.zone), self.account)


def style(context: Context) -> None:
    """The styles of the resident's pages."""
    st.html(STYLE.format(**vars(context.colours)))


def resident(context: Context, key: str) -> Resident | None:
    """Who is looking and at which of their own metering points; None where there is none, and the
    page has said so. key: of the page, for the widget that chooses."""
    style(context)
    person = context.person
    assert person is not None
    accounts = person.accounts
    if not accounts:
        empty(
            _("No metering point is yours yet"),
            _(
                "The wallet {address} owns no metering point in this zone. Whoever runs the "
                "registry enters it; if it stands under another wallet of yours, sign in with "
                "that one."
            ).format(address=person.address),
        )
        return None
    wanted: Any = accounts[0]
    if len(accounts) > 1:
        wanted = st.selectbox(
            _("Metering point"),
            accounts,
            format_func=lambda one: _("Metering point {number}").format(number=one),
            key=f"{key}.account",
        )
    account = own_account(accounts, wanted)
    assert account is not None
    try:
        opened = sources(context.settings, context.zone)
    except GridCommonsError:
        error_box(
            _("The record of trades cannot be read."),
            _("Nothing on the chain is affected: your money and your orders are safe."),
            _("Whoever runs this dashboard finds the reason in its log. Try again later."),
        )
        return None
    if not opened.reached.whole:
        lead(_("The chain is still being read; older orders and movements appear as it goes on."))
    return Resident(context, opened, account)


def order_views(held: Resident, posted: Sequence[Posted]) -> list[OrderView]:
    """Orders with all that is known of them."""
    found = []
    keys = {one.order.session_slot: None for one in posted}
    known = {slot: session(held.sources.key(slot)) for slot in keys}
    for one in posted:
        facts_, filled = known[one.order.session_slot]
        if facts_ is not None:
            context = held.context
            found.append(order_view(one, facts_, filled, context.tariffs, context.now))
    return found


def no_relay() -> None:
    """What a page says where no relay is named."""
    error_box(
        _("No relay is known to this dashboard."),
        _("Your money and your orders are on the chain and safe."),
        _("Whoever runs this dashboard can name one. Orders can also be posted in person."),
    )


def relay_trouble(error: CheckFailed) -> None:
    """What a page says where the relay is away or answers something odd."""
    if isinstance(error, RelayAway):
        error_box(
            _("The relay does not answer."),
            _("What it has taken is safe on its disk, and all money is safe on the chain."),
            _("This page asks it again by itself. If a gate is near, you can post in person."),
        )
    elif isinstance(error, RelayRefused):
        error_box(
            _("The relay does not take this: {problem}.").format(
                problem=in_words(error.problem.problem)
            ),
            _("Nothing was signed and nothing was sent."),
            _("It would accept: {accepted}.").format(accepted=in_words(error.problem.accepted)),
        )
    elif isinstance(error, (NotAsAsked, RelayOdd)):
        error_box(
            _("The relay answered something else than was asked."),
            _("Nothing was signed, and your money and your orders are safe."),
            _("Do not sign anything for now. Tell whoever runs the relay."),
        )
    else:
        error_box(
            _("This cannot be shown now."),
            _("Your money and your orders are on the chain and safe."),
            _("Try again in a moment."),
        )


def from_relay(ask: Callable[[RelayClient], Any], relay: RelayClient | None) -> Any:
    """What the relay answers, None where it does not: the page has then said why."""
    if relay is None:
        no_relay()
        return None
    try:
        return ask(relay)
    except CheckFailed as error:
        relay_trouble(error)
        return None


def wallet_problem(answer: wallet.Answer) -> None:
    """What a wallet's or a delivery's refusal means, and that nothing is lost."""
    problem = answer.problem or "other"
    if problem == "delivery-failed":
        body = (answer.delivered or {}).get("body")
        said = body.get("error") if isinstance(body, dict) else None
        why = said.get("problem") if isinstance(said, dict) else None
        would = said.get("accepted") if isinstance(said, dict) else None
        if isinstance(why, str):
            error_box(
                _("The relay did not take it: {problem}.").format(problem=in_words(why[:200])),
                _("Nothing was sent to the chain. Your money is where it was."),
                _("It would accept: {accepted}.").format(accepted=in_words(str(would)[:200])),
            )
            return
        error_box(
            _("You signed, but the relay could not be reached."),
            _("Nothing was sent to the chain. What you signed counts once at most."),
            _("Try again: the same signature is never used twice."),
        )
        return
    words = {
        "rejected": _("You declined in your wallet."),
        "wrong-chain": _("Your wallet is on another chain."),
        "wrong-account": _("Your wallet answered with another account."),
        "no-wallet": _("No wallet was found in this browser."),
        "busy": _("Your wallet is still busy with an earlier request."),
        "disconnected": _("The connection to your wallet was lost."),
    }
    todo = {
        "wrong-chain": _("Switch the wallet to this chain and try again."),
        "wrong-account": _("Choose the account that you signed in with and try again."),
        "busy": _("Open the wallet, answer what it asks, then try again."),
    }
    error_box(
        words.get(problem, _("The wallet did not sign.")),
        _("Nothing was signed and nothing was sent."),
        todo.get(problem, _("You can try again at any time.")),
    )


def notes(those: list[tuple[str, str]]) -> None:
    """Short remarks, each with its tone: good, bad, or empty for a mere hint."""
    if those:
        put(
            '<ul class="gc-notes">'
            + "".join(f'<li class="{escape(tone)}">{escape(words)}</li>' for tone, words in those)
            + "</ul>"
        )


def hash_text(tx: str | None) -> str:
    """A transaction's hash as HTML, short, whole on hover and for a screen reader."""
    if not tx:
        return ""
    return f'<span class="gc-hash" title="{escape(tx)}">{escape(tx[:10])}…{escape(tx[-6:])}</span>'


def file_link(label: str, path: str, *, main: bool = False) -> str:
    """A link to a file of `routes/files.py`, as HTML that looks like a button."""
    tone = " main" if main else ""
    return f'<a class="gc-file{tone}" href="{escape(path)}" download>{escape(label)}</a>'


def evidence_link(context: Context, account: int, key: tuple[int, int]) -> str:
    """The link to an order's evidence, as HTML."""
    return file_link(_("Evidence about this order"), evidence_path(context, account, key))


def evidence_path(context: Context, account: int, key: tuple[int, int]) -> str:
    """Where an order's evidence is fetched from."""
    path = f"/my-data/v1/disputes/{account}/{key[0]}-{key[1]}.zip"
    return f"{path}?lang={context.locale.language}"


def signed_euro(context: Context, micro: int) -> str:
    """Money with its sign: `+€1.20`, `-€0.30`, `€0.00`."""
    text = context.fmt.euro(abs(micro))
    if round(micro / 10_000) == 0:
        return context.fmt.euro(0)
    return ("+" if micro > 0 else "\u2212") + text


def unbroken(text: str) -> str:
    """Text that stays on one line."""
    return text.replace(" ", "\u00a0")


def result(context: Context, micro: int) -> str:
    """Money with its sign and colour, as HTML."""
    cents = round(micro / 10_000)
    tone = "up" if cents > 0 else "down" if cents < 0 else ""
    return f'<span class="gc-result {tone}">{escape(signed_euro(context, micro))}</span>'
