# SPDX-License-Identifier: Apache-2.0
"""What programs say, in the visitor's language: on pages, and in what a route answers a browser."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from dashboard import i18n
from dashboard.i18n import ENGLISH, Locale, speaking
from dashboard.routes import _language
from dashboard.routes._guard import refusal
from dashboard.services.program_words import SAID, in_words

ROOT = Path(i18n.__file__).parent.parent
GERMAN = Locale("de")


@pytest.mark.parametrize(
    ("said", "english", "german"),
    [
        ("the session is void", "the session is void", "die Handelsrunde ist ungültig"),
        (
            "needs an escrow of 50000, the account has 0 free",
            "needs an escrow of €0.05, the account has €0.00 free",
            "braucht 0,05 € als Sicherheit, auf dem Konto sind 0,00 € frei",
        ),
        (
            "this cannot be checked now; nothing was changed",
            "this cannot be checked now; nothing was changed",
            "das kann jetzt nicht geprüft werden; nichts wurde geändert",
        ),
        ("12 is not open", "12 is not open", "12 ist nicht eröffnet"),
        ("<b>what</b> no table knows", "<b>what</b> no table knows", "<b>what</b> no table knows"),
        (
            "{0.__class__} is not open",
            "{0.__class__} is not open",
            "{0.__class__} ist nicht eröffnet",
        ),
        ("", "", ""),
    ],
)
def test_what_is_known_is_said_in_the_language_and_the_rest_as_it_came(
    said: str, english: str, german: str
) -> None:
    def plain(text: str) -> str:
        return text.replace("\u00a0", " ")

    with speaking(ENGLISH):
        assert plain(in_words(said)) == english
    with speaking(GERMAN):
        assert plain(in_words(said)) == german


def test_the_table_lists_what_programs_really_say() -> None:
    """Each text stands in the sources, its fields aside: one that is reworded there is seen."""
    whole: set[str] = set()
    patterns: set[str] = set()
    for folder in ("dao", "meters", "scripts", "dashboard"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "program_words.py":
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.JoinedStr):
                        patterns.add(pattern(node))
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        whole.add(node.value)
    said, formed = "\n".join(whole), re.compile("|".join(patterns - {""}))
    for text in SAID:
        # What is put together of several words is looked up by its longest part.
        longest = max(re.split(r"\{\w+\}", text), key=len).strip(" ;:,")
        assert longest in said or formed.search(text), text


def pattern(node: ast.JoinedStr) -> str:
    """What an f-string looks like once it is filled in; nothing where that could be anything."""
    parts = [str(one.value) if isinstance(one, ast.Constant) else None for one in node.values]
    if len(re.findall(r"[a-z]{2,}", " ".join(filter(None, parts)))) < 3:
        return ""
    return "".join(".+" if one is None else re.escape(one) for one in parts)


def answered(response: Response, locale: Locale) -> tuple[int, dict[str, str], bytes]:
    """What a browser gets of an answer."""
    got: list[Message] = []

    async def send(message: Message) -> None:
        got.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await response(scope, receive, _language.speaking(send, locale))

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(app({"type": "http", "method": "POST", "headers": []}, receive, send))
    headers = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    body = b"".join(one.get("body", b"") for one in got[1:])
    return got[0]["status"], headers, body


def test_a_refusal_reaches_a_browser_in_its_language_and_whole() -> None:
    status, headers, body = answered(refusal(409, "nonce", "too many orders", "12", 7), GERMAN)
    said = json.loads(body)
    one = {"field": "nonce", "problem": "zu viele Aufträge", "accepted": "12"}
    assert (status, said) == (409, {"error": one, "problems": [one], "retry_after": 7})
    assert int(headers["content-length"]) == len(body)
    assert headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "response",
    [
        JSONResponse({"error": {"problem": "too many orders"}}),
        Response("too many orders", 404, media_type="text/plain"),
        Response("{too many orders", 500, media_type="application/json"),
        JSONResponse(["too many orders"], 422),
    ],
)
def test_everything_else_stays_as_it_is(response: Response) -> None:
    assert answered(response, GERMAN)[2] == response.body


def visitor(query: str = "", cookie: str = "", accept: str = "") -> Request:
    headers = [(b"host", b"localhost:8501"), (b"accept-language", accept.encode())]
    if cookie:
        headers.append((b"cookie", f"{i18n.COOKIE}_8501={cookie}".encode()))
    return Request({"type": "http", "query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("query", "cookie", "accept", "spoken"),
    [
        ("", "", "", "en"),
        ("", "", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "", "fr-FR,de;q=0.5", "de"),
        ("", "en", "de-DE", "en"),
        ("lang=de", "en", "en-GB", "de"),
        ("lang=tlh", "de", "en-GB", "de"),
        ("lang=../../de", "%00", "*", "en"),
    ],
)
def test_the_address_goes_before_what_was_chosen_and_that_before_the_browser(
    query: str, cookie: str, accept: str, spoken: str
) -> None:
    assert _language.language_of(visitor(query, cookie, accept)).language == spoken


def test_a_choice_is_kept_for_this_dashboard_alone_and_out_of_reach_of_scripts() -> None:
    response = Response()
    _language.keep_language(response, visitor(), GERMAN)
    kept = response.headers["set-cookie"]
    assert kept.startswith(f"{i18n.COOKIE}_8501=de;")
    assert "HttpOnly" in kept
    assert "SameSite=lax" in kept
