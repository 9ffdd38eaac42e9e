# SPDX-License-Identifier: Apache-2.0
"""`GET /dossiers/v1/{name}`: a dossier that was made here, for anybody: it holds nothing private.

What makes and checks them is `repositories/dossiers.py`, asked by the page alone.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.repositories.dossiers import workshop
from dashboard.routes._guard import refusal
from dashboard.settings import Settings


def routes(settings: Settings) -> list[BaseRoute]:
    """The routes for the deployment that `settings` name."""

    async def handle(request: Request) -> Response:
        name = request.path_params["name"]
        there = workshop(settings.home).ready(settings)
        one = next((one for one in there if one.name == name), None)
        if one is None:
            return refusal(404, "name", "there is no such dossier any more", "one of the page's")
        return FileResponse(
            one.path,
            media_type="application/zip",
            filename=one.name,
            headers={"Cache-Control": "no-store"},
        )

    return [Route("/dossiers/v1/{name}", handle, methods=["GET"])]
