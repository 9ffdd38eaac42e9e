# SPDX-License-Identifier: Apache-2.0
"""Tampering and faults, found in what is committed, and a dossier of them that proves itself.

`findings` looks, `dossier` opens the slots that a finding rests on, `check` holds a dossier against
itself and the chain, `balance` holds what the transformer's meter says beside the homes' meters.
Power flow is not done here: `forecasting/feeder.py` makes the balance.
"""
