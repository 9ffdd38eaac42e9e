# SPDX-License-Identifier: Apache-2.0
"""Who is signed in: sessions in this process's memory, and the one-time marks that lead to one.

A sign-in text carries its own proof (an HMAC in its nonce), so asking for texts fills nothing up.
What is kept is capped and ends by itself; a restart of the server signs everybody out. HTTP is the
business of `routes/session.py`, signatures too.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

from dashboard.services.sign_in import SignInText

T = TypeVar("T")

TEXT_S = 600
SESSION_S = 12 * 3_600
TICKET_S = 60
"""How long a text can be signed, a session lasts, and a ticket can be redeemed, seconds."""

MAX_SESSIONS = 5_000
MAX_SESSIONS_EACH = 20
MAX_USED = 20_000
MAX_TICKETS = 1_000
_SKEW_S = 60


class NotSignedIn(Exception):
    """A sign-in that is refused: the field at fault, what is wrong and what is accepted."""

    def __init__(self, field: str, problem: str, accepted: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
        self.accepted = accepted


@dataclass(frozen=True)
class Session:
    """A browser that is signed in. id: names it on the server, opens nothing; ends: unix s."""

    id: str
    account: str
    chain_id: int
    ends: float


class Sessions:
    """The store. `now` gives unix seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._tickets: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def text(
        self,
        domain: str,
        uri: str,
        account: str,
        chain_id: int,
        browser: str,
        language: str = "en",
    ) -> SignInText:
        """A text for `account` to sign in this browser, which has the secret `browser`."""
        issued = int(self._now())
        bare = SignInText(
            domain, account, uri, chain_id, secrets.token_hex(16), issued, issued + TEXT_S, language
        )
        return self._with_proof(bare, browser)

    def use(self, text: SignInText, domain: str, chain_id: int, browser: str) -> None:
        """Use a text up. NotSignedIn unless it was made here, for this address, chain and browser,
        not long ago, and was never used. Call it when the signature is known to be right."""
        if text.domain != domain:
            raise NotSignedIn("message", f"it is for {text.domain}", domain)
        if text.chain_id != chain_id:
            raise NotSignedIn("message", f"it is for chain {text.chain_id}", f"chain {chain_id}")
        now = self._now()
        if not text.issued - _SKEW_S <= now < text.expires:
            raise NotSignedIn("message", "it has expired", "a text signed within minutes")
        proven = self._with_proof(replace(text, nonce=text.nonce[:32]), browser)
        if not hmac.compare_digest(proven.nonce, text.nonce):
            raise NotSignedIn("message", "it was not made for this browser", "a text from here")
        with self._lock:
            _forget(self._used, now, float)
            if text.nonce in self._used:
                raise NotSignedIn("message", "it was used before", "a text that is new")
            if len(self._used) >= MAX_USED:
                raise NotSignedIn("message", "too many people sign in", "a try a little later")
            self._used[text.nonce] = text.expires

    def open(self, account: str, chain_id: int) -> str:
        """A new session; returns the secret for the browser's cookie."""
        token = secrets.token_urlsafe(32)
        session = Session(_id(token), account, chain_id, self._now() + SESSION_S)
        with self._lock:
            _forget(self._sessions, self._now(), lambda one: one.ends)
            theirs = [one.id for one in self._sessions.values() if one.account == account]
            for old in theirs[: max(len(theirs) - MAX_SESSIONS_EACH + 1, 0)]:
                del self._sessions[old]
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[session.id] = session
        return token

    def of_token(self, token: str | None) -> Session | None:
        """The session that a cookie's secret opens, None if there is none or it has ended."""
        return self.of_id(_id(token)) if token else None

    def of_id(self, session_id: str) -> Session | None:
        """The session of that id, None if there is none or it has ended."""
        session = self._sessions.get(session_id)
        return session if session is not None and self._now() < session.ends else None

    def close(self, session_id: str) -> None:
        """End a session, wherever it is in use."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def ticket(self, token: str) -> str:
        """A mark, good once and for a minute, by which an open page takes up a new session."""
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            _forget(self._tickets, self._now(), lambda one: one[1])
            while len(self._tickets) >= MAX_TICKETS:
                self._tickets.popitem(last=False)
            self._tickets[ticket] = (_id(token), self._now() + TICKET_S)
        return ticket

    def redeem(self, ticket: str) -> Session | None:
        """The session of a ticket, which is then worthless."""
        with self._lock:
            session_id, ends = self._tickets.pop(ticket, ("", 0.0))
        return self.of_id(session_id) if self._now() < ends else None

    def _with_proof(self, text: SignInText, browser: str) -> SignInText:
        """The text with the proof that it is ours behind its nonce."""
        signed = f"{browser}\n{text.write()}".encode()
        proof = hmac.new(self._key, signed, sha256).hexdigest()[:32]
        return replace(text, nonce=text.nonce + proof)


def _id(token: str) -> str:
    # What the server keeps and logs cannot be turned back into a cookie.
    return sha256(token.encode()).hexdigest()


def _forget(kept: OrderedDict[str, T], now: float, end: Callable[[T], float]) -> None:
    """Drop what has ended from the front; entries lie in the order of their ends."""
    while kept:
        name, first = next(iter(kept.items()))
        if end(first) > now:
            return
        del kept[name]


SESSIONS = Sessions()
"""This process's sessions: the pages and the routes share them."""
