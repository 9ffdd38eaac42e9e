# SPDX-License-Identifier: Apache-2.0
"""Who is looking: the person that signed in with this browser, and the box to sign in with.

What proves it is in `routes/session.py`; what a page may show follows from `Person.accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dao.paths import index_path, lake_dir
from dashboard import wallet
from dashboard.i18n import _
from dashboard.repositories import people
from dashboard.sessions import SESSIONS, Session
from dashboard.settings import Settings, configured_zone, current_run

if TYPE_CHECKING:
    from starlette.requests import Request

    from dashboard.context import Context

LOCAL_WALLET = "/local-wallet"
DEMO_RDNS = "city.gridcommons.demo"
_SESSION = "identity.session"


@dataclass(frozen=True)
class Person:
    """Somebody who signed in. accounts: the metering points that are theirs on the registry, in
    this dashboard's zone. name: only demonstration people have one."""

    address: str
    accounts: tuple[int, ...] = ()
    name: str | None = None
    is_seeded: bool = False


def current(settings: Settings) -> Person | None:
    """The person of this browser's session, None where nobody signed in."""
    wallet.use(translate=_, demo=LOCAL_WALLET if settings.local else None)
    for session in _sessions():
        if session.chain_id == settings.chain_id:
            return person(settings, session.account)
    return None


def person_of(request: Request, settings: Settings) -> Person | None:
    """The person whose browser sends a request to one of our routes, None where nobody is signed
    in. A route that gives private data or acts for somebody asks this, and nothing else."""
    from dashboard.routes.session import token_of

    session = SESSIONS.of_token(token_of(request.cookies, request.headers.get("host", "")))
    if session is None or session.chain_id != settings.chain_id:
        return None
    return person(settings, session.account)


def person(settings: Settings, address: str) -> Person:
    """The person of an address, with what the registry says is theirs."""
    owners = people.owners(index_path(), zone())
    mine = sorted(meter for meter, owner in owners.items() if owner == address)
    demo = [meter for meter in mine if meter in seeded(settings, zone())]
    return Person(
        address=address,
        accounts=tuple(mine),
        name=home_name(demo[0]) if demo else None,
        is_seeded=bool(demo),
    )


def chain(settings: Settings) -> wallet.Chain | None:
    """The chain for `wallet.button(chain=...)`. A wallet is told the node of a local chain only:
    the address of any other may be this operator's own, key included."""
    if settings.chain_id is None:
        return None
    if not settings.local or settings.rpc is None:
        return wallet.Chain(settings.chain_id)
    return wallet.Chain(settings.chain_id, _("Local chain"), settings.rpc)


def sign_in_box(context: Context) -> None:
    """Sign in with a wallet, or as one of the demonstration people of a local chain."""
    import streamlit as st

    from dashboard.views.parts import empty, section

    settings = context.settings
    if settings.chain_id is None:
        empty(
            _("Signing in is not possible yet"),
            _("Nothing is deployed on the chain so far. Come back when the run has begun."),
        )
        return
    demo = seeded(settings, context.zone)
    if demo:
        section(
            _("Look around as somebody else"),
            _(
                "Demonstration: these people live on a local chain, with play money. Anybody at "
                "this computer may be any of them."
            ),
        )
        panels = people.feeding_in(lake_dir(), context.zone)

        def words(meter: int) -> str:
            name = home_name(meter)
            if meter not in panels:
                return name
            return _("{name}, with solar panels").format(name=name)

        meters = sorted(demo, key=lambda meter: (meter not in panels, meter))
        chosen = st.selectbox(
            _("Demonstration person"),
            meters,
            format_func=words,
            key="identity.demo.meter",
            width=320,
        )
        request = _request(demo[chosen], DEMO_RDNS)
        label = _("Continue as {name}").format(name=home_name(chosen))
        _take(wallet.button(label, request=request, key="identity.demo.sign_in"))
    section(
        _("Sign in with your wallet"),
        _(
            "Your wallet proves that your address is yours. It asks you twice: to connect, and "
            "to sign a short text. Both cost nothing."
        ),
    )
    _take(
        wallet.button(
            _("Sign in with a wallet"),
            request=_request(),
            key="identity.sign_in",
            kind="secondary" if demo else "primary",
        )
    )


def sign_out() -> None:
    """End this browser's session, in every window that it is open in."""
    import streamlit as st

    for session in _sessions():
        SESSIONS.close(session.id)
    st.session_state.pop(_SESSION, None)


def _request(account: str | None = None, rdns: str | None = None) -> wallet.SignIn:
    return wallet.SignIn("/session/challenge", "/session/sign-in", account, rdns)


def _take(answer: wallet.Answer | None) -> None:
    """Take up the session that a sign-in just now has opened."""
    import streamlit as st

    if answer is None or not answer.fresh or not answer.ok or answer.delivered is None:
        return
    body = answer.delivered.get("body")
    ticket = body.get("ticket") if isinstance(body, dict) else None
    session = SESSIONS.redeem(ticket) if isinstance(ticket, str) else None
    if session is not None:
        st.session_state[_SESSION] = session.id
        st.rerun()


def _sessions() -> list[Session]:
    """The sessions of this page: the one it took up itself, and the one its browser came with."""
    import streamlit as st

    from dashboard.routes.session import token_of

    host = st.context.headers.get("host") or ""
    found = (
        SESSIONS.of_id(str(st.session_state.get(_SESSION, ""))),
        SESSIONS.of_token(token_of(st.context.cookies, host)),
    )
    return [one for one in found if one is not None]


def zone() -> int:
    """The zone whose metering points count here."""
    from dashboard.context import DEFAULT_ZONE

    run = current_run()
    return configured_zone() or (run.zone_id if run else DEFAULT_ZONE)


def seeded(settings: Settings, zone: int) -> dict[int, str]:
    """The demonstration people by metering point; none on a chain that is not one's own."""
    run = current_run() if settings.local else None
    return people.seeded(index_path(), zone, run.seed) if run else {}


def home_name(meter: int) -> str:
    """How a demonstration person is called: by the home."""
    return _("Home {number}").format(number=meter)
