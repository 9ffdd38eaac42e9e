# SPDX-License-Identifier: Apache-2.0
"""The demo: a zone's people and devices acting out the whole loop on a local chain.

Everything they do goes through the same functions that a real relay, collector, forecaster and
keeper use; only the people, their strategy and the clock are simulated.

The underscore keeps the folder out of `ape run`, which takes every other name in scripts/ for a
command.
"""
