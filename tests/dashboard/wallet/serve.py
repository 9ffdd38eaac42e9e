# SPDX-License-Identifier: Apache-2.0
"""The two pages behind the dashboard's content-security policy, and a till that takes orders.

Run as `python -m tests.dashboard.wallet.serve PORT`. The till takes the same order twice for one,
as the relay does, and can be told to be away.
"""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import streamlit
import uvicorn
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streamlit.starlette import App

taken: dict[str, dict] = {}
visits = {"all": 0, "away": 0, "refuse": 0}


def policy() -> str:
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text()
    hashes = [
        f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'"
        for one in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    return (
        f"default-src 'self'; script-src 'self' {' '.join(hashes)}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    )


class Policy:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def sent(message):
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", policy().encode())
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        await self.app(scope, receive, sent)


async def orders(request: Request) -> Response:
    if request.method == "GET":
        return JSONResponse({"orders": list(taken.values()), "visits": visits["all"]})
    visits["all"] += 1
    if visits["away"]:
        visits["away"] -= 1
        return JSONResponse({"error": {"problem": "away"}}, 503)
    if visits["refuse"]:
        visits["refuse"] -= 1
        return JSONResponse({"error": {"problem": "the gate has closed"}}, 422)
    body = await request.json()
    known = body["signature"] in taken
    taken[body["signature"]] = body
    return JSONResponse({"id": body["signature"][:10]}, 200 if known else 201)


async def control(request: Request) -> Response:
    told = await request.json()
    if told.pop("forget", False):
        taken.clear()
        visits.update(all=0, away=0, refuse=0)
    visits.update(told)
    return JSONResponse(visits)


app = App(
    Path(__file__).with_name("pages.py"),
    routes=[
        Route("/orders", orders, methods=["GET", "POST"]),
        Route("/control", control, methods=["POST"]),
    ],
    middleware=[Middleware(Policy)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
