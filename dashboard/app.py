# SPDX-License-Identifier: Apache-2.0
"""The page's entry: Streamlit runs this file. Start it with `dashboard.serve`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dao.errors import GridCommonsError
from dao.paths import index_path
from dao.runstate import read_run_state
from dashboard.repositories.events import ChainEvents
from dashboard.theme import palette, style_sheet
from dashboard.views import live

REFRESH_SECONDS = 2.0


@st.fragment(run_every=REFRESH_SECONDS)
def now() -> None:
    """Everything on the page, read anew and drawn again."""
    colours = palette(st.context.theme.type)
    st.html(style_sheet(colours))
    try:
        state = read_run_state()
        if state is None:
            live.nothing_yet()
        else:
            live.page(state, ChainEvents(index_path(), state.zone_id), colours)
    except GridCommonsError as error:
        live.unreadable(str(error))


st.set_page_config(
    page_title="GridCommons",
    page_icon=str(Path(__file__).with_name("icon.svg")),
    layout="wide",
    initial_sidebar_state="collapsed",
)
now()
