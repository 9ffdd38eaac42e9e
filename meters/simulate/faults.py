# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with meters and lines, on demand: faults of the value, the clock and the wire.

A fault changes what a device shows or sends, never what physically flows. Wire faults are carried
out by `wire`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dao.errors import BadUse


class FaultKind(Enum):
    """Value: what it does."""

    DROP = "drop"
    CORRUPT = "corrupt"
    SILENT = "silent"
    SLOW = "slow"
    FROZEN = "frozen"
    RESET = "reset"
    ROLLOVER = "rollover"
    SPIKE = "spike"
    SIGN = "sign"
    DRIFT = "drift"
    REFUSE = "refuse"


TOLD: dict[FaultKind, str] = {
    FaultKind.DROP: "the connection ends in the middle of a telegram",
    FaultKind.CORRUPT: "one byte of every telegram is flipped",
    FaultKind.SILENT: "the device answers nothing and sends nothing",
    FaultKind.SLOW: "one byte a second of device time (slow-loris)",
    FaultKind.FROZEN: "registers and power stay as they are",
    FaultKind.RESET: "registers start again at zero",
    FaultKind.ROLLOVER: "registers stand 500 Wh before their last digit and roll over",
    FaultKind.SPIKE: "registers show 100 MWh too much for a minute",
    FaultKind.SIGN: "import and export are exchanged",
    FaultKind.DRIFT: "the device's clock runs 1 % fast",
    FaultKind.REFUSE: "set-points and charging profiles are refused",
}

ROLLOVER_MARGIN_WH = 500
SPIKE_WH = 100_000_000
"""More than any home could use in a minute, and within every register's width."""
SPIKE_SECONDS = 60
DRIFT_SECONDS_PER_SECOND = 0.01


@dataclass(frozen=True)
class Fault:
    """A fault from `since` until just before `until`, unix seconds."""

    kind: FaultKind
    since: float = 0.0
    until: float = float("inf")

    @staticmethod
    def parse(text: str, start: float) -> Fault:
        """`KIND` or `KIND@SECONDS` after `start`. BadUse for anything else."""
        name, at, seconds = text.partition("@")
        try:
            kind = FaultKind(name)
        except ValueError:
            known = ", ".join(kind.value for kind in FaultKind)
            raise BadUse(f"unknown fault {name!r}; known are {known}") from None
        if at and not seconds.isdecimal():
            raise BadUse(f"fault {text!r}: expected whole seconds after @, like {name}@3600")
        since = start + int(seconds) if at else start
        return Fault(
            kind, since, since + SPIKE_SECONDS if kind is FaultKind.SPIKE else float("inf")
        )


class Measured(Protocol):
    """What a meter measures: see `truth.Truth`."""

    def registers(self, at: float, per_wh: int = 1) -> tuple[int, int]: ...

    def power(self, at: float) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Shown:
    """What a device shows. `clock` is its own time; registers in 1/per_wh Wh; power in W."""

    clock: float
    import_register: int
    export_register: int
    import_w: int
    export_w: int
    per_wh: int


class Faults:
    """The faults of one device; they may come and go while it runs."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: tuple[Fault, ...] = tuple(faults)

    def inject(self, fault: Fault) -> None:
        self._faults = (*self._faults, fault)

    def clear(self, kind: FaultKind | None = None) -> None:
        """End all faults, or those of one kind."""
        self._faults = tuple(one for one in self._faults if kind and one.kind is not kind)

    def active(self, kind: FaultKind, at: float) -> Fault | None:
        """The fault of this kind that holds at a time, the oldest if several do."""
        return next(
            (one for one in self._faults if one.kind is kind and one.since <= at < one.until), None
        )

    def shown(self, measured: Measured, at: float, per_wh: int, width_wh: int) -> Shown:
        """What the device shows at a time; its registers go up to `width_wh` Wh, then from zero."""
        look = at
        if frozen := self.active(FaultKind.FROZEN, at):
            look = frozen.since
        registers = measured.registers(look, per_wh)
        power = measured.power(look)
        if reset := self.active(FaultKind.RESET, at):
            registers = _less(registers, measured.registers(reset.since, per_wh))
        if rollover := self.active(FaultKind.ROLLOVER, at):
            grown = _less(registers, measured.registers(rollover.since, per_wh))
            last = (width_wh - ROLLOVER_MARGIN_WH) * per_wh
            registers = (grown[0] + last, grown[1] + last)
        if self.active(FaultKind.SPIKE, at):
            registers = (registers[0] + SPIKE_WH * per_wh, registers[1] + SPIKE_WH * per_wh)
        if self.active(FaultKind.SIGN, at):
            registers = registers[::-1]
            power = power[::-1]
        clock = at
        if drift := self.active(FaultKind.DRIFT, at):
            clock = at + (at - drift.since) * DRIFT_SECONDS_PER_SECOND
        width = width_wh * per_wh
        return Shown(clock, registers[0] % width, registers[1] % width, *power, per_wh)


def _less(registers: tuple[int, int], start: tuple[int, int]) -> tuple[int, int]:
    return registers[0] - start[0], registers[1] - start[1]
