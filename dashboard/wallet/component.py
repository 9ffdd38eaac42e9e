# SPDX-License-Identifier: Apache-2.0
"""The button: mounts the browser's part and keeps count of what was asked and answered.

State of a page session lives in st.session_state under one private key, so that it outlasts a
change of the page; what must outlast a reload is in the browser's sessionStorage.
"""

from __future__ import annotations

import secrets
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from .answers import Answer, read_answer
from .requests import Chain, Request, chain_wanted, content_digest
from .texts import texts

_FOLDER = Path(__file__).resolve().parent
_STATE = "_wallet"
# What a session remembers of requests gone by; more than one has in flight.
_REMEMBERED = 64


@dataclass
class _Memory:
    """What one page session asked and heard. `salt` keeps ids of different sessions apart."""

    salt: str = field(default_factory=lambda: secrets.token_hex(4))
    ended: dict[str, int] = field(default_factory=dict)
    asked: OrderedDict[str, Request] = field(default_factory=OrderedDict)
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def remember(self, request_id: str, request: Request) -> None:
        self.asked[request_id] = request
        self.asked.move_to_end(request_id)
        while len(self.asked) > _REMEMBERED:
            self.asked.popitem(last=False)

    def take(self, key: str, token: str) -> None:
        """Count an answer of the button `key` as heard."""
        self.ended[key] = self.ended.get(key, 0) + 1
        self.seen[token] = None
        while len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)


@dataclass
class _Use:
    translate: Callable[[str], str] = str
    demo: str | None = None


_use = _Use()
# Streamlit's renderer per component manager: tests run several runtimes in one process.
_renderers: list[tuple[Any, Callable[..., Any]]] = []


def use(*, translate: Callable[[str], str] | None = None, demo: str | None = None) -> None:
    """Settings of the whole app: a gettext for the button's words, and the path of a JSON-RPC
    service that signs for demonstration people (None: there is none)."""
    if translate is not None:
        _use.translate = translate
    _use.demo = demo


def button(
    label: str,
    *,
    request: Request,
    key: str,
    disabled: bool = False,
    kind: Literal["primary", "secondary"] = "primary",
    chain: Chain | None = None,
) -> Answer | None:
    """A button that puts one request to the person's wallet per click.

    `key` is the button's own, stable across runs; `chain` tells a wallet that does not know the
    chain of the request how to reach it. Returns the last answer, None before there is one; act
    on it when it is `fresh`. Not for use inside st.form.
    """
    memory: _Memory = st.session_state.setdefault(_STATE, _Memory())
    raw = _said(key)
    token = str(raw.get("token", ""))[:64] if raw else ""
    # A state that outlived its session, as after a restart of the server, is not an answer to us.
    ours = bool(raw) and raw.get("session") == memory.salt
    fresh = ours and token not in memory.seen
    number = memory.ended.get(key, 0) + fresh
    content = content_digest(request)
    request_id = request.id or f"{content}-{memory.salt}-{number}"
    memory.remember(request_id, request)
    wanted = chain_wanted(request, chain)
    render = _renderer()
    if render is not None:
        render(
            key=key,
            data={
                "key": key,
                "session": memory.salt,
                "seen": token if ours else None,
                "label": label,
                "primary": kind == "primary",
                "disabled": disabled,
                "request": {"id": request_id, **request.wire()},
                "content": content,
                "chain": wanted.wire() if wanted else None,
                "demo": _use.demo,
                "texts": texts(_use.translate),
            },
            on_answer_change=_nothing,
        )
    if not ours:
        return None
    if fresh:
        # Only now: Streamlit may break a run off while it draws, and the next one must hear it too.
        memory.take(key, token)
    return read_answer(raw, fresh, memory.asked.get(str(raw.get("id"))))


def _said(key: str) -> dict[str, Any]:
    """The component's last answer as the browser sent it, before this run mounts it again."""
    state = st.session_state.get(key)
    said = state.get("answer") if isinstance(state, Mapping) else None
    return said if isinstance(said, dict) else {}


def _nothing() -> None:
    """Streamlit keeps a state only where somebody listens for its change."""


def _renderer() -> Callable[..., Any] | None:
    """The mounting command for the running server, None outside of one."""
    from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
    from streamlit.runtime import Runtime

    if not Runtime.exists():
        return None
    manager = get_bidi_component_manager()
    for known, renderer in _renderers:
        if known is manager:
            return renderer
    name = _make_known(manager)
    renderer = st.components.v2.component(name, js="index.js", css="wallet.css")
    _renderers[:] = [*_renderers[-3:], (manager, renderer)]
    return renderer


def _make_known(manager: Any) -> str:
    """Make sure that the server knows our asset folder; returns the component's full name.

    Streamlit finds the manifest of an installed package by itself. As a folder of a larger
    project, or in a checkout, this package shows it the same file.
    """
    from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

    manifest = tomllib.loads((_FOLDER / "pyproject.toml").read_text())
    project = manifest["project"]
    (entry,) = manifest["tool"]["streamlit"]["component"]["components"]
    name = f"{project['name']}.{entry['name']}"
    if manager.get_component_asset_root(name) is None:
        config = ComponentConfig(entry["name"], entry["asset_dir"])
        manager.register_from_manifest(
            ComponentManifest(project["name"], project["version"], [config]), _FOLDER
        )
    return name
