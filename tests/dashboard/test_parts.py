# SPDX-License-Identifier: Apache-2.0
"""Pieces of pages put together: what comes in one, in which order, and what is made on request."""

from __future__ import annotations

import re

from streamlit.testing.v1 import AppTest


def drawn(app: AppTest) -> list[str]:
    """The page from top to bottom: HTML without its tags, the name of a widget in brackets."""
    assert not app.exception
    found = []
    # What stands in a fold comes before the fold itself.
    for one in app.main:
        if one.type == "html":
            found.append(" ".join(re.sub(r"<[^>]*>", " ", one.proto.body).split()))
        elif one.type in ("button", "expander"):
            found.append(f"[{one.proto.label}]")
    return found


def gathering() -> None:
    import streamlit as st

    from dashboard.views.parts import flush, gathered, halves, lead, put, together, unfolding

    with together():
        put("<p>one</p>")
        with together():
            lead("two & three")
        flush()
        st.button("first")
        put("<p>four</p>")
        with gathered() as left:
            put("<p>left</p>")
        put(halves(left, ["right"]))
    put("<p>five</p>")
    with together():
        pass
    with together():
        put("<p>six</p>")
        unfolding("test", lambda: "<p>made</p>")
        put("<p>seven</p>")


def test_what_is_gathered_stands_where_it_was_put() -> None:
    app = AppTest.from_function(gathering).run()
    begin = ["one two &amp; three", "[first]", "four left right", "five", "six"]
    assert drawn(app) == [*begin, "[The same as a table]", "seven"]
    app.session_state["test.unfold"] = True
    app.run()
    assert drawn(app) == [*begin, "[The same as a table]", "made", "seven"]
    app.session_state["test.unfold"] = False
    app.run()
    assert drawn(app) == [*begin, "[The same as a table]", "seven"]


def failing() -> None:
    import streamlit as st

    from dashboard.views.parts import put, together

    try:
        with together():
            put("<p>what there was</p>")
            raise ValueError
    except ValueError:
        put("<p>what happened</p>")
    st.button("last")


def test_what_was_put_before_a_failure_is_shown() -> None:
    app = AppTest.from_function(failing).run()
    assert drawn(app) == ["what there was", "what happened", "[last]"]


def own() -> None:
    import pandas as pd

    from dashboard.views.parts import put, table

    frame = pd.DataFrame({"<b>": ["<i>x</i>"], "link": ["<a href='/votes'>go</a>"]})
    put(table(frame, "a table", set(), own={"link"}))


def test_only_cells_of_our_own_are_html() -> None:
    app = AppTest.from_function(own).run()
    (html,) = [one.proto.body for one in app.main if one.type == "html"]
    assert "&lt;i&gt;x&lt;/i&gt;" in html
    assert "&lt;b&gt;" in html
    assert "<a href='/votes'>go</a>" in html
