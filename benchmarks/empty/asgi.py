# SPDX-License-Identifier: Apache-2.0
"""The empty page's ASGI app: Streamlit's own and nothing else."""

from __future__ import annotations

from pathlib import Path

from streamlit.web.server.starlette import App

app = App(Path(__file__).with_name("script.py"))
