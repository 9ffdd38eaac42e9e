# SPDX-License-Identifier: Apache-2.0
"""The relay: takes signed orders over HTTP, promises to post them before the gate, pays the gas."""
