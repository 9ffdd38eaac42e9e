# SPDX-License-Identifier: Apache-2.0
"""A wallet button for Streamlit: connect, sign, send, sign in, one request per click.

Imports nothing but Streamlit, so that other apps can take this folder as a package of its own
(README.md). What the browser does is in assets/; what an answer means to GridCommons is not here.
"""

from .answers import PROBLEMS, Answer
from .component import button, use
from .requests import (
    Chain,
    Connect,
    Deliver,
    Request,
    SendTransaction,
    SignIn,
    SignMessage,
    SignTypedData,
)

__all__ = [
    "PROBLEMS",
    "Answer",
    "Chain",
    "Connect",
    "Deliver",
    "Request",
    "SendTransaction",
    "SignIn",
    "SignMessage",
    "SignTypedData",
    "button",
    "use",
]
