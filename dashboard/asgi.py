# SPDX-License-Identifier: Apache-2.0
"""The server's one ASGI app: Streamlit's pages, our routes beside them, and what guards both.

Run by `dashboard.serve`. Which pages and routes there are is said in `pages.py` and `routes/`.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.web.server.starlette import App

from dao.errors import CheckFailed, GridCommonsError
from dashboard import hosts, routes
from dashboard.errors import on_script_error
from dashboard.i18n import ENGLISH
from dashboard.pages import DEFAULT, PAGES, page
from dashboard.routes._guard import refusal
from dashboard.routes._language import keep_language, language_of, speaking
from dashboard.settings import Settings, read_settings

log = logging.getLogger(__name__)
# Streamlit sends every logger to its own handler, this one too; who looks at what is not recorded.
logging.getLogger("uvicorn.access").disabled = True

_STATIC = Path(streamlit.__file__).parent / "static"
_IMPORTED = re.compile(r'(?:from|import)"\./([\w.-]+\.js)"')
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# Where the server is, so that Streamlit's page does not look for it below its own path first; and
# who may embed it (nobody but itself), so that it opens its socket without asking that before.
_WHERE = """
window.__streamlit = {
  BACKEND_BASE_URL: location.origin + "/",
  MAIN_PAGE_BASE_URL: location.origin + "/",
  HOST_CONFIG: {
    allowedOrigins: [location.origin],
    useExternalAuthToken: false,
    enableCustomParentMessages: false,
    enforceDownloadInNewTab: false,
    blockErrorDialogs: false,
    metricsUrl: "",
  },
};
"""
# A field for numbers follows the browser's own language, whatever the page speaks. Where it drops a
# comma that is the page's decimal sign, 2,5 would be 25: the point that it knows is put there.
_COMMA = """
document.addEventListener("beforeinput", ({ data, target }) => {
  if (data !== "," || target.type !== "number") return;
  if (!(1.5).toLocaleString(document.documentElement.lang).includes(",")) return;
  let taken = false;
  const take = () => { taken = true; };
  target.addEventListener("input", take, { once: true });
  setTimeout(() => {
    target.removeEventListener("input", take);
    if (!taken) document.execCommand("insertText", false, ".");
  });
}, true);
"""
# Files of our own, beside Streamlit's: what the scripts are for stands in them.
_ASSETS = Path(__file__).with_name("assets")
# What every page of ours needs of Streamlit's scripts, beside what every page of Streamlit's does.
_WANTED = ("Html", "purify.es", "Button")
# Streamlit's own; we have nothing there.
_STREAMLIT = ("/_stcore/", "/static/", "/media/", "/component/")


@cache
def shell(language: str = "en", scripts: tuple[str, ...] = ()) -> bytes:
    """The HTML that every page begins with: Streamlit's own, with our name in it, and the language
    that a screen reader is to speak.

    scripts: of Streamlit's widgets, which the browser then fetches at once and not one after the
    other as they come into the page.
    """
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    for old, new in (
        ('<html lang="en">', f'<html lang="{language}">'),
        ("<title>Streamlit</title>", "<title>GridCommons</title>"),
        ("<head>", f"<head>\n    <script>{_WHERE}</script>\n    <script>{_COMMA}</script>"),
    ):
        if old not in text:
            raise CheckFailed(f"Streamlit's page has no {old}: this version of it is not known")
        text = text.replace(old, new, 1)
    wanted = "".join(
        f'<link rel="modulepreload" href="./static/js/{name}">'
        for name in _files((*_WANTED, *scripts))
    )
    paths = " ".join("/" if one.slug == DEFAULT else f"/{one.slug}" for one in PAGES)
    own = "".join(
        f'<script type="module" src="./assets/{one.name}?{_version(one)}" data-pages="{paths}">'
        "</script>"
        for one in sorted(_ASSETS.glob("*.js"))
    )
    return text.replace("</head>", f"{wanted}{own}</head>", 1).encode()


@cache
def _version(path: Path) -> str:
    """Another address for each content, as the browser keeps what an address gave it."""
    return sha256(path.read_bytes()).hexdigest()[:12]


def _files(names: Sequence[str]) -> list[str]:
    """The files of some of Streamlit's scripts, and of all that they import and the page's first
    script does not."""
    folder = _STATIC / "static" / "js"

    def imported(found: dict[str, None], todo: list[str]) -> dict[str, None]:
        while todo:
            name = todo.pop()
            if name not in found and (folder / name).is_file():
                found[name] = None
                todo += _IMPORTED.findall((folder / name).read_text(encoding="utf-8"))
        return found

    def files(name: str) -> list[str]:
        return [path.name for path in sorted(folder.glob(f"{name}.*.js"))]

    first = imported({}, files("index"))
    return list(imported(dict(first), [one for name in names for one in files(name)]))[len(first) :]


@cache
def policy() -> str:
    """The content-security policy: this server only, and no script that is not a file of it.

    The inline scripts of the page are allowed by their hashes. Styles set by Streamlit's
    own components stand in the page, so those have to be allowed inline.
    """
    hashes = [
        f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'"
        for one in _INLINE.findall(shell().decode())
    ]
    rules = {
        "default-src": ["'self'"],
        "script-src": ["'self'", *hashes],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "frame-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in rules.items())


class Guard:
    """Answers only to its own names, and sends every answer with the headers that protect it.

    A page of another site whose name its owner points at this machine reaches us under that name;
    the check of the name ends that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        headers = {
            "Content-Security-Policy": policy(),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._names = {name for name, _ in self._headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not hosts.is_ours(host):
            await self._turn_away(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message["headers"] if one[0].lower() not in self._names]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        await self._app(scope, receive, sent)

    @staticmethod
    async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        response = refusal(421, "Host", "this dashboard has another name", "its own address")
        await response(scope, receive, send)


class Live(BaseRoute):
    """Our routes as the settings stand: made anew when a run begins or another one comes."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._routes: Sequence[BaseRoute] = ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["path"].startswith(_STREAMLIT):
            return Match.NONE, {}
        partial: tuple[Match, Scope] = (Match.NONE, {})
        for route in self._now():
            match, child = route.matches(scope)
            found = (match, {**child, "gridcommons.route": route})
            if match == Match.FULL:
                return found
            if match == Match.PARTIAL and partial[0] == Match.NONE:
                partial = found
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        locale = language_of(Request(scope))
        if locale != ENGLISH:
            send = speaking(send, locale)
        await scope["gridcommons.route"].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)

    def _now(self) -> Sequence[BaseRoute]:
        try:
            settings = read_settings()
        except GridCommonsError as error:
            # The pages say so too; the routes go on with what they knew.
            log.warning("%s", error)
            return self._routes
        if settings != self._settings:
            self._routes = [one for module in _modules() for one in module.routes(settings)]
            self._settings = settings
        return self._routes


@cache
def _modules() -> list[Any]:
    names = sorted(one.name for one in pkgutil.iter_modules(routes.__path__))
    return [
        importlib.import_module(f"{routes.__name__}.{name}")
        for name in names
        if not name.startswith("_")
    ]


async def _shell(request: Request) -> Response:
    slug = request.url.path.strip("/") or DEFAULT
    locale = language_of(request)
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Language, Cookie"}
    html = shell(locale.language, page(slug).scripts)
    response = Response(html, media_type="text/html", headers=headers)
    if request.query_params.get("lang") == locale.language:
        keep_language(response, request, locale)
    return response


class _Assets(StaticFiles):
    """Kept by the browser for good where the address names the content, for a day elsewhere."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        is_named = scope["query_string"].decode("latin-1") == _version(Path(full_path))
        age = "max-age=31536000, immutable" if is_named else "max-age=86400"
        response.headers["Cache-Control"] = f"public, {age}"
        return response


async def _start(request: Request) -> Response:
    # Streamlit knows its first page by the root alone.
    query = request.url.query
    return RedirectResponse(f"/?{query}" if query else "/", 307)


_pages = [
    Route("/", _shell),
    Route(f"/{DEFAULT}", _start),
    *(Route(f"/{one.slug}", _shell) for one in PAGES if one.slug != DEFAULT),
]
app = App(
    Path(__file__).with_name("app.py"),
    routes=[Mount("/assets", _Assets(directory=_ASSETS)), Live(), *_pages],
    middleware=[Middleware(Guard)],
    on_script_error=on_script_error,
)
