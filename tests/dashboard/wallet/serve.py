# SPDX-License-Identifier: Apache-2.0
"""The two pages behind the dashboard's own guard and policy, and a till that takes orders.

Run as `python -m tests.dashboard.wallet.serve PORT`. The till takes the same order twice for one,
as the relay does, and can be told to be away.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streamlit.starlette import App

from dashboard.asgi import Guard

taken: dict[str, dict] = {}
visits = {"all": 0, "away": 0, "refuse": 0}


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
    middleware=[Middleware(Guard)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
