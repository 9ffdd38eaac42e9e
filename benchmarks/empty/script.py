# SPDX-License-Identifier: Apache-2.0
"""The empty page's script: a heading, so that there is something to wait for."""

import streamlit as st

st.title("Empty")
