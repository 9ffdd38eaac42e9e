# SPDX-License-Identifier: Apache-2.0
"""Simulated devices that speak the real protocols over real sockets, driven by SimBench profiles.

They show what `truth.Truth` says, live in the time of a `clock.Clock`, and fail on demand. Signing
gateways of the demo are not here: see `meters.devices`.
"""
