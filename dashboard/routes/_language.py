# SPDX-License-Identifier: Apache-2.0
"""The language of whoever sends a request, and how a browser keeps the one that was chosen."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from dashboard import i18n
from dashboard.hosts import cookie_name
from dashboard.services.program_words import answer_in_words

_YEAR_S = 365 * 86_400


def language_of(request: Request) -> i18n.Locale:
    """The language that the page speaks from which a request comes."""
    return i18n.asked(
        request.query_params.get("lang"),
        request.cookies.get(_name(request)),
        request.headers.get("accept-language"),
    )


def keep_language(response: Response, request: Request, locale: i18n.Locale) -> None:
    """Let the browser keep a language that was chosen. It says nothing about who it is."""
    response.set_cookie(
        _name(request), locale.language, max_age=_YEAR_S, path="/", httponly=True, samesite="lax"
    )


def _name(request: Request) -> str:
    return cookie_name(i18n.COOKIE, request.headers.get("host", ""))


def speaking(send: Send, locale: i18n.Locale) -> Send:
    """`send`, with the words of a refusal (JSON with a status of 400 and above) in `locale`."""
    held: Message = {}
    body = bytearray()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and _is_refusal(message):
            held.update(message)
            return
        if message["type"] != "http.response.body" or not held:
            await send(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body", False):
            return
        said = _said(bytes(body), locale)
        kept = [one for one in held["headers"] if one[0].lower() != b"content-length"]
        length = (b"content-length", str(len(said)).encode())
        await send({**held, "headers": [*kept, length]})
        await send({"type": "http.response.body", "body": said})

    return sent


def _is_refusal(message: Message) -> bool:
    kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
    return bool(message["status"] >= 400 and kinds and kinds[0].startswith(b"application/json"))


def _said(body: bytes, locale: i18n.Locale) -> bytes:
    try:
        with i18n.speaking(locale):
            return json.dumps(answer_in_words(json.loads(body)), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return body
