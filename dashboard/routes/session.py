# SPDX-License-Identifier: Apache-2.0
"""`/session/...`: Sign-In with Ethereum (EIP-4361) for the visitor's browser.

POST /session/challenge {account} -> {message}, for the wallet to sign; POST /session/sign-in
{message, signature} -> {account, ticket} and the cookie; POST /session/sign-out {}.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dao.eip712 import checksum_address, recover
from dao.errors import GridCommonsError
from dao.node import Node
from dashboard.hosts import cookie_name
from dashboard.routes._guard import Refused, read_json
from dashboard.routes._language import language_of
from dashboard.services.sign_in import SignInText, personal_digest, read
from dashboard.sessions import SESSION_S, SESSIONS, TEXT_S, NotSignedIn
from dashboard.settings import Settings

SESSION_COOKIE = "gridcommons_session"
BROWSER_COOKIE = "gridcommons_browser"
"""Their names before the port is added, see `hosts.cookie_name`."""
MAX_BODY = 32_768

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
# A contract wallet's signature may be long.
_SIGNATURE = re.compile(r"0x([0-9a-fA-F]{2}){1,8000}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{20,64}")


def routes(settings: Settings) -> list[BaseRoute]:
    """The sign-in's paths."""

    def post(path: str, answer: Callable[[Request, Settings], Awaitable[Response]]) -> Route:
        async def handle(request: Request) -> Response:
            try:
                return await answer(request, settings)
            except Refused as refused:
                return refused.response()

        return Route(f"/session/{path}", handle, methods=["POST"])

    return [
        post("challenge", _challenge),
        post("sign-in", _sign_in),
        post("sign-out", _sign_out),
    ]


async def _challenge(request: Request, settings: Settings) -> Response:
    account = _text(await read_json(request, MAX_BODY), "account", _ADDRESS, "an address, 0x...")
    browser = _browser(request) or secrets.token_urlsafe(24)
    domain = _domain(request)
    scheme = "https" if _is_secure(request) else "http"
    text = SESSIONS.text(
        domain,
        f"{scheme}://{domain}",
        checksum_address(account),
        _chain(settings),
        browser,
        language_of(request).language,
    )
    response = _json({"message": text.write()})
    _set_cookie(response, request, BROWSER_COOKIE, browser, TEXT_S)
    return response


async def _sign_in(request: Request, settings: Settings) -> Response:
    body = await read_json(request, MAX_BODY)
    chain_id = _chain(settings)
    message = _text(body, "message", re.compile(r"[\s\S]{1,1500}"), "the text from the challenge")
    signature = _text(body, "signature", _SIGNATURE, "0x and the signature in hex")
    browser = _browser(request)
    if browser is None:
        raise Refused(403, "Cookie", "this browser asked for no text", "the challenge first")
    try:
        text = read(message)
    except ValueError as error:
        raise Refused(400, "message", str(error), "the text from the challenge") from None
    if not await run_in_threadpool(_is_signed, text, message, signature, settings):
        raise Refused(403, "signature", f"not {text.account}'s", "the account's own signature")
    try:
        SESSIONS.use(text, _domain(request), chain_id, browser)
    except NotSignedIn as refused:
        raise Refused(403, refused.field, refused.problem, refused.accepted) from None
    # Whatever session the browser came with ends here; the new one has a secret of its own.
    if (old := session_of(request)) is not None:
        SESSIONS.close(old)
    token = SESSIONS.open(text.account, chain_id)
    response = _json({"account": text.account, "ticket": SESSIONS.ticket(token)})
    _set_cookie(response, request, SESSION_COOKIE, token, SESSION_S)
    _end_cookie(response, request, BROWSER_COOKIE)
    return response


async def _sign_out(request: Request, _: Settings) -> Response:
    await read_json(request, MAX_BODY)
    if (session_id := session_of(request)) is not None:
        SESSIONS.close(session_id)
    response = _json({"account": None})
    _end_cookie(response, request, SESSION_COOKIE)
    return response


def session_of(request: Request) -> str | None:
    """The id of the session that a request's cookie opens."""
    session = SESSIONS.of_token(token_of(request.cookies, _domain(request)))
    return session.id if session else None


def token_of(cookies: Mapping[str, str], host: str) -> str | None:
    """The secret of a session among the cookies that a browser sent to `host`."""
    return cookies.get(cookie_name(SESSION_COOKIE, host))


def _is_signed(text: SignInText, message: str, signature: str, settings: Settings) -> bool:
    """Whether the account signed: by its key, or as a contract wallet (ERC-1271)."""
    digest, raw = personal_digest(message), bytes.fromhex(signature[2:])
    try:
        if checksum_address(recover(digest, raw)) == text.account:
            return True
    except ValueError:
        pass  # A contract wallet's signature may look like anything.
    if settings.rpc is None:
        return False
    try:
        return Node(settings.rpc).vouches(text.account, digest, raw)
    except GridCommonsError as error:
        raise Refused(503, "signature", str(error), "a try a little later") from None


def _chain(settings: Settings) -> int:
    if settings.chain_id is None:
        raise Refused(503, "chain", "no contracts are deployed yet", "a try a little later")
    return settings.chain_id


def _domain(request: Request) -> str:
    """The name by which the visitor reached us; the guard has checked that it is ours."""
    return request.headers.get("host", "").lower()


def _is_secure(request: Request) -> bool:
    # Behind a proxy that ends TLS only the browser knows.
    return urlsplit(request.headers.get("origin", "")).scheme == "https"


def _browser(request: Request) -> str | None:
    secret = request.cookies.get(cookie_name(BROWSER_COOKIE, _domain(request)), "")
    return secret if _SECRET.fullmatch(secret) else None


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(name, _domain(request)),
        value,
        max_age=seconds,
        path=_path(name),
        httponly=True,
        samesite="strict",
        secure=_is_secure(request),
    )


def _end_cookie(response: Response, request: Request, name: str) -> None:
    response.delete_cookie(
        cookie_name(name, _domain(request)), path=_path(name), httponly=True, samesite="strict"
    )


def _path(name: str) -> str:
    return "/" if name == SESSION_COOKIE else "/session"


def _text(body: Any, field: str, pattern: re.Pattern[str], accepted: str) -> str:
    value = body.get(field) if isinstance(body, dict) else None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Refused(400, field, "missing or malformed", accepted)
    return value


def _json(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
