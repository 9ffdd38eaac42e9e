# SPDX-License-Identifier: Apache-2.0
"""The gateway: the box at a home that reads its devices, signs quarter-hours and sends them on.

`sources` turn sockets into samples, `intervals` samples into Wh per slot, `outbox` signs and keeps
them, `uplink` delivers them; `drivers` carry a schedule to a battery or charger. `run` wires all.
"""
