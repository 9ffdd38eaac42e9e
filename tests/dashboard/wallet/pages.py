# SPDX-License-Identifier: Apache-2.0
"""A Streamlit app with two pages around the wallet's buttons: what the browser tests drive.

The buttons are asked for a real chain; addresses come from the environment.
"""

from __future__ import annotations

import json
import os
import time

import streamlit as st

from dashboard import wallet
from tests.dashboard.wallet.asked import TO, document

ACCOUNT = os.environ["TEST_ACCOUNT"]
CHAIN = wallet.Chain(31337, "Local chain", os.environ["TEST_RPC"])


def told(name: str, answer: wallet.Answer | None) -> None:
    """Counts fresh answers and writes what was heard, one line per button."""
    heard = st.session_state.setdefault("heard", {})
    if answer is not None and answer.fresh:
        heard.setdefault(name, []).append(
            {
                "ok": answer.ok,
                "problem": answer.problem,
                "account": answer.account,
                "signature": answer.signature,
                "transaction": answer.transaction,
                "delivered": answer.delivered,
                "known": answer.request is not None,
            }
        )
    st.text(f"{name}: {json.dumps(heard.get(name, []))}")


def home() -> None:
    st.title("Home")
    told("connect", wallet.button("Connect", request=wallet.Connect(), key="connect"))
    wh = int(st.number_input("Wh", 0, 10_000, 500, key="wh"))
    order = wallet.SignTypedData(
        document(wh), ACCOUNT, wallet.Deliver("/orders", {"wh": wh, "signature": "$signature"})
    )
    elsewhere = st.toggle("Elsewhere")
    label = "Sign it otherwise" if st.toggle("Otherwise") else "Sign the order"
    forbidden = st.toggle("Forbidden")
    if elsewhere:
        st.title("Above it")
    with st.columns(2)[0] if elsewhere else st.container():
        answer = wallet.button(label, request=order, key="order", chain=CHAIN, disabled=forbidden)
    told("order", answer)
    send = wallet.SendTransaction(TO, value=wh, account=ACCOUNT, chain=CHAIN)
    told("send", wallet.button("Send the coins", request=send, key="send"))
    note = wallet.SignMessage("Grüße", ACCOUNT)
    told("note", wallet.button("Sign the note", request=note, key="note", kind="secondary"))
    st.button("Run again")
    st.text(f"drawn {time.monotonic_ns()}")


def other() -> None:
    st.title("Other")
    st.text("Nothing to sign here.")


st.navigation([st.Page(home, default=True), st.Page(other)], position="top").run()
