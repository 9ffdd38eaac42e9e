# SPDX-License-Identifier: Apache-2.0
"""Quarter-hours of Wh from what a device shows: cumulative registers, or power.

Pure: samples in, whole slots out, no clock and no I/O. The energy of a slot is the difference of
the register at its two edges, each a whole number, so that no sum ever drifts from the register.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOT_SECONDS
from meters.readings import MAX_WH, Quality

Direction = Literal["import", "export"]
DIRECTIONS: tuple[Direction, ...] = ("import", "export")

_FALLS = 3
"""So many falls in a row, and a register counts backwards: a wrong sign, no reset."""
_KEPT_SLOTS = 31 * 96
"""How long a slot that lacks a direction waits for it."""


@dataclass(frozen=True)
class Sample:
    """What a device showed at `at` (unix seconds): registers in Wh, None where it has none."""

    at: float
    import_wh: int | None = None
    export_wh: int | None = None


@dataclass(frozen=True)
class PowerSample:
    """Power at `at` (unix seconds) in W; positive draws from the grid."""

    at: float
    watts: float


@dataclass(frozen=True)
class Interval:
    """Energy of one slot in Wh, None where it is not known."""

    slot: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality


@dataclass(frozen=True)
class Rules:
    """What a device can do, and how near samples must lie for a value to count as measured.

    near_s: two samples around an edge, at most so far apart, make it measured, else estimated;
    bridge_s: the longest gap over which a register's rise is spread over the slots (estimated);
    power_near_s, power_gap_s: the same for power, where a longer gap leaves its slots unknown;
    capacity_w: the most that can flow, and resolution_wh: the step of the register: a faster rise
    is no energy; rollover_wh: the count at which the register starts again at zero, None where
    unknown (then no fall is a rollover); frozen_s: registers that stand still for so long count as
    estimated from then on, 0 for never.
    """

    near_s: float = 120
    bridge_s: float = 31 * 86_400
    power_near_s: float = 60
    power_gap_s: float = 300
    capacity_w: int = 69_000
    resolution_wh: int = 10
    rollover_wh: int | None = None
    frozen_s: float = 86_400

    def __post_init__(self) -> None:
        if self.near_s <= 0 or self.bridge_s < self.near_s:
            raise BadUse("near_s must be above zero, and bridge_s not below near_s")
        if self.power_near_s <= 0 or self.power_gap_s < self.power_near_s:
            raise BadUse("power_near_s must be above zero, and power_gap_s not below power_near_s")
        if self.capacity_w <= 0 or self.resolution_wh < 0 or self.frozen_s < 0:
            raise BadUse("capacity_w must be above zero; resolution_wh and frozen_s not below it")
        if self.rollover_wh is not None and self.rollover_wh <= 0:
            raise BadUse("rollover_wh must be above zero")


def slot_at(at: float) -> int:
    """The slot that contains the instant."""
    return int(at // SLOT_SECONDS)


@dataclass(frozen=True)
class Part:
    """Energy of one slot in one direction, known."""

    slot: int
    wh: int
    quality: Quality


@dataclass
class RegisterTrack:
    """One cumulative register: the last sample that counts, and where the slot under way began.

    A sample that does not follow from the one before (a fall, or a rise beyond the connection)
    waits for the next one as its witness: it was a glitch if that one goes on from the sample
    before, a reset or another device if that one goes on from the odd one.
    """

    rules: Rules
    at: float | None = None
    wh: int = 0
    total: int = 0
    """Wh since the first sample; goes on over a rollover or a reset and never falls."""
    edge: int | None = None
    """`total` at the begin of the slot that contains `at`; None where that is not known."""
    estimated: bool = False
    odd: list[tuple[float, int]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def slot(self) -> int | None:
        """The slot under way: all before it are complete or lost."""
        return None if self.at is None else slot_at(self.at)

    def add(self, at: float, wh: int) -> list[Part]:
        """Take a sample and give the slots that it completes."""
        if self.at is None:
            if wh >= 0:
                self._begin(at, wh)
            return []
        if at <= (self.odd[-1][0] if self.odd else self.at):
            return []
        if self._follows(self.at, self.wh, at, wh):
            if self.odd:
                self._fault("glitch")
            return self._advance(at, wh, wh - self.wh)
        width = self.rules.rollover_wh
        if (
            width is not None
            and 0 <= wh < self.wh <= width
            and self._follows(self.at, self.wh, at, wh + width)
        ):
            self._fault("rollover")
            return self._advance(at, wh, wh + width - self.wh)
        if self.odd and self._follows(*self.odd[-1], at, wh):
            return self._go_on_from_odd(at, wh)
        self.odd = [*self.odd, (at, wh)][-_FALLS:]
        return []

    def _follows(self, at: float, wh: int, later: float, later_wh: int) -> bool:
        most = math.ceil(self.rules.capacity_w * (later - at) / 3600) + self.rules.resolution_wh
        return 0 <= later_wh - wh <= most

    def _begin(self, at: float, wh: int) -> None:
        """Start anew: the slot under way is known only if it begins right here."""
        self.at, self.wh = at, wh
        self.edge = self.total if at % SLOT_SECONDS == 0 else None
        self.estimated = False
        self.odd.clear()

    def _go_on_from_odd(self, at: float, wh: int) -> list[Part]:
        """The odd sample has its witness: the register was reset, jumped, or is another one."""
        assert self.at is not None
        odd_at, odd_wh = self.odd[-1]
        is_fall = odd_wh < self.wh
        from_zero = self._follows(self.at, 0, odd_at, odd_wh)
        if is_fall and from_zero and len(self.odd) == 1 and odd_at - self.at <= self.rules.near_s:
            # It began again at zero a moment ago. What it shows has flowed since; what flowed
            # before it fell is a moment's energy at most.
            self._fault("reset")
            parts = self._advance(odd_at, odd_wh, odd_wh, estimated=True)
        else:
            small = self._follows(self.at, odd_wh, odd_at, self.wh) and not from_zero
            self._fault("sign" if is_fall and small else "reset" if is_fall else "jump")
            parts = []
            self._begin(odd_at, odd_wh)
        return parts + self._advance(at, wh, wh - self.wh)

    def _advance(self, at: float, wh: int, rise: int, estimated: bool = False) -> list[Part]:
        """Go on to a sample that follows, across however many edges lie between."""
        assert self.at is not None
        since, gap = self.at, at - self.at
        before, self.total = self.total, self.total + rise
        self.at, self.wh = at, wh
        self.odd.clear()
        self.estimated |= estimated
        first, last = slot_at(since) + 1, slot_at(at)
        if first > last:
            return []
        if gap > self.rules.bridge_s:
            self.edge, self.estimated = None, False
            if at % SLOT_SECONDS == 0:
                self.edge = self.total
            return []
        parts = []
        for slot in range(first, last + 1):
            moment = slot * SLOT_SECONDS
            # Where the register did not move, or was read at the edge itself, nothing is guessed.
            exact = rise == 0 or moment == at or gap <= self.rules.near_s
            edge = before + int(rise * (moment - since) / gap)
            if self.edge is not None:
                is_estimate = self.estimated or not exact
                quality = Quality.ESTIMATED if is_estimate else Quality.MEASURED
                parts.append(Part(slot - 1, edge - self.edge, quality))
            self.edge = edge
            self.estimated = estimated or not exact
        return parts

    def _fault(self, kind: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1


@dataclass
class Channel:
    """What one device counts, both directions."""

    rules: Rules
    tracks: dict[Direction, RegisterTrack] = field(default_factory=dict)
    moved_at: float = 0.0
    frozen: bool = False

    def add(self, sample: Sample) -> dict[Direction, list[Part]]:
        """Take a sample and give the slots that it completes, by direction."""
        shown: dict[Direction, int | None] = {
            "import": sample.import_wh,
            "export": sample.export_wh,
        }
        tracks = {
            direction: self.tracks.setdefault(direction, RegisterTrack(self.rules))
            for direction, wh in shown.items()
            if wh is not None
        }
        moved = any(
            track.at is None or track.wh != shown[direction] for direction, track in tracks.items()
        )
        if moved:
            self.moved_at = sample.at
        self.frozen = bool(self.rules.frozen_s) and (
            sample.at - self.moved_at >= self.rules.frozen_s
        )
        parts: dict[Direction, list[Part]] = {}
        for direction, track in tracks.items():
            wh = shown[direction]
            assert wh is not None
            parts[direction] = track.add(sample.at, wh)
            track.estimated |= self.frozen
        return parts

    def slot(self, direction: Direction) -> int | None:
        """The slot under way in a direction, None before the first sample."""
        return self.tracks[direction].slot if direction in self.tracks else None

    @property
    def faults(self) -> dict[str, int]:
        """How often each fault was met, both directions together."""
        found: dict[str, int] = {}
        for track in self.tracks.values():
            for kind, count in track.faults.items():
                found[kind] = found.get(kind, 0) + count
        return found

    def as_dict(self) -> dict[str, Any]:
        """What goes on after a restart, as JSON; without the rules, which the settings hold."""
        tracks = {}
        for direction, track in self.tracks.items():
            tracks[direction] = asdict(track)
            del tracks[direction]["rules"]
        return {"tracks": tracks, "moved_at": self.moved_at}

    @classmethod
    def from_dict(cls, rules: Rules, kept: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        tracks: dict[Direction, RegisterTrack] = {}
        for direction in DIRECTIONS:
            if direction in kept["tracks"]:
                fields = dict(kept["tracks"][direction])
                fields["odd"] = [(float(at), int(wh)) for at, wh in fields["odd"]]
                tracks[direction] = RegisterTrack(rules, **fields)
        return cls(rules, tracks, kept["moved_at"])


@dataclass
class PowerChannel:
    """Registers made from power by the trapezoid rule; a change of sign is split where it is zero.

    A gap beyond `power_gap_s` holds nothing that is known: the slots it touches are lost.
    """

    rules: Rules
    at: float | None = None
    watts: float = 0.0
    # Watt-seconds since the first sample; their whole Wh are the registers.
    taken: float = 0.0
    given: float = 0.0
    edges: tuple[int, int] | None = None
    estimated: bool = False
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, sample: PowerSample) -> dict[Direction, list[Part]]:
        """Take a sample and give the slots that it completes, by direction."""
        parts: dict[Direction, list[Part]] = {"import": [], "export": []}
        at, watts = sample.at, sample.watts
        if self.at is not None and at <= self.at:
            return parts
        if not math.isfinite(watts) or abs(watts) > self.rules.capacity_w:
            self.faults["spike"] = self.faults.get("spike", 0) + 1
            return parts
        if self.at is None or at - self.at > self.rules.power_gap_s:
            if self.at is not None:
                self.faults["gap"] = self.faults.get("gap", 0) + 1
            self.at, self.watts, self.edges, self.estimated = at, watts, None, False
            if at % SLOT_SECONDS == 0:
                self.edges = self._registers()
            return parts
        is_estimate = at - self.at > self.rules.power_near_s
        start, first, gap = self.at, self.watts, at - self.at
        self.estimated |= is_estimate
        for slot in range(slot_at(start) + 1, slot_at(at) + 1):
            moment = slot * SLOT_SECONDS
            self._integrate(moment, first + (watts - first) * (moment - start) / gap)
            now = self._registers()
            if self.edges is not None:
                quality = Quality.ESTIMATED if self.estimated else Quality.MEASURED
                for index, direction in enumerate(DIRECTIONS):
                    part = Part(slot - 1, now[index] - self.edges[index], quality)
                    parts[direction].append(part)
            self.edges, self.estimated = now, is_estimate
        self._integrate(at, watts)
        return parts

    def slot(self, direction: Direction) -> int | None:
        """The slot under way, None before the first sample."""
        return None if self.at is None else slot_at(self.at)

    @property
    def frozen(self) -> bool:
        """Power may stand still."""
        return False

    def _integrate(self, at: float, watts: float) -> None:
        assert self.at is not None
        seconds = at - self.at
        for energy, sign in (("taken", 1.0), ("given", -1.0)):
            a, b = sign * self.watts, sign * watts
            if a >= 0 and b >= 0:
                area = (a + b) / 2 * seconds
            elif a <= 0 and b <= 0:
                area = 0.0
            else:
                high = max(a, b)
                area = high / 2 * seconds * high / (abs(a) + abs(b))
            setattr(self, energy, getattr(self, energy) + area)
        self.at, self.watts = at, watts

    def _registers(self) -> tuple[int, int]:
        # Sums of floats end a hair below the whole number that they stand for.
        return int(self.taken / 3600 + 1e-6), int(self.given / 3600 + 1e-6)

    def as_dict(self) -> dict[str, Any]:
        """What goes on after a restart, as JSON."""
        kept = asdict(self)
        del kept["rules"]
        return kept

    @classmethod
    def from_dict(cls, rules: Rules, kept: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        edges = kept["edges"]
        return cls(rules, **{**kept, "edges": None if edges is None else (edges[0], edges[1])})


@dataclass(frozen=True)
class Feed:
    """A channel's part in the metering point: which directions it adds to.

    `directions` are those that the channel must give; `crossed` swaps import and export, for a
    device that is wired or named the other way round.
    """

    name: str
    rules: Rules
    directions: tuple[Direction, ...] = DIRECTIONS
    crossed: bool = False
    is_power: bool = False


class Assembler:
    """The metering point: adds its channels up and gives each slot once it is known.

    A slot that only one direction is known of is given after `patience_s`, with null for the other,
    and again, whole, when that comes. `absent` directions do not exist at the point: always zero.
    """

    def __init__(
        self,
        feeds: Iterable[Feed],
        *,
        absent: Iterable[Direction] = (),
        patience_s: float = 3_600,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self.feeds = {feed.name: feed for feed in feeds}
        self.absent = frozenset(absent)
        self.patience_s = patience_s
        self.channels: dict[str, Channel | PowerChannel] = {}
        self._parts: dict[int, dict[tuple[str, Direction], tuple[int, int]]] = {}
        self._given: dict[int, list[Direction]] = {}
        self.lose()
        if kept is not None:
            self._restore(kept)

    def _who_gives(self, direction: Direction) -> list[str]:
        return [name for name, feed in self.feeds.items() if direction in feed.directions]

    def add(self, name: str, sample: Sample | PowerSample) -> list[Interval]:
        """Take a channel's sample and give the slots that are complete with it."""
        feed, channel = self.feeds[name], self.channels[name]
        if isinstance(channel, PowerChannel):
            if not isinstance(sample, PowerSample):
                raise BadUse(f"source {name} gives registers where power was expected")
            watts = -sample.watts if feed.crossed else sample.watts
            found = channel.add(PowerSample(sample.at, watts))
        else:
            if not isinstance(sample, Sample):
                raise BadUse(f"source {name} gives power where registers were expected")
            if feed.crossed:
                sample = Sample(sample.at, sample.export_wh, sample.import_wh)
            found = channel.add(sample)
        for direction, parts in found.items():
            if direction in feed.directions:
                for part in parts:
                    kept = self._parts.setdefault(part.slot, {})
                    kept[name, direction] = (part.wh, int(part.quality))
        return self.complete(sample.at)

    def complete(self, now: float) -> list[Interval]:
        """The slots that are due at `now`: known in all directions, or waited for long enough."""
        given = []
        for slot in sorted(self._parts):
            due = now >= (slot + 1) * SLOT_SECONDS + self.patience_s
            passed = [d for d in DIRECTIONS if self._passed(slot, d)]
            if len(passed) < len(DIRECTIONS) and not due:
                continue
            interval = self._interval(slot)
            known = [d for d in DIRECTIONS if getattr(interval, f"{d}_wh") is not None]
            if known and known != self._given.get(slot):
                given.append(interval)
                self._given[slot] = known
            if len(passed) == len(DIRECTIONS) or now > (slot + _KEPT_SLOTS) * SLOT_SECONDS:
                del self._parts[slot]
                self._given.pop(slot, None)
        return given

    def _passed(self, slot: int, direction: Direction) -> bool:
        names = self._who_gives(direction)
        slots = [self.channels[name].slot(direction) for name in names]
        return all(under_way is not None and under_way > slot for under_way in slots)

    def _interval(self, slot: int) -> Interval:
        parts = self._parts[slot]
        sums: dict[Direction, int | None] = {}
        worst = Quality.MEASURED
        for direction in DIRECTIONS:
            names = self._who_gives(direction)
            own = [parts.get((name, direction)) for name in names]
            known = [part for part in own if part is not None]
            if not names or len(known) < len(own):
                sums[direction] = 0 if direction in self.absent and not names else None
                continue
            total = sum(wh for wh, _ in known)
            sums[direction] = total if total <= MAX_WH else None
            worst = max(worst, *(Quality(quality) for _, quality in known))
        return Interval(slot, sums["import"], sums["export"], worst)

    def lose(self) -> None:
        """Forget all samples: nothing is known of the energy since."""
        for name, feed in self.feeds.items():
            self.channels[name] = (PowerChannel if feed.is_power else Channel)(feed.rules)

    # What goes on after a restart

    def as_dict(self) -> dict[str, Any]:
        """Everything that the next process needs, as JSON."""
        return {
            "channels": {name: channel.as_dict() for name, channel in self.channels.items()},
            "parts": [
                [slot, name, direction, *value]
                for slot, parts in self._parts.items()
                for (name, direction), value in parts.items()
            ],
            "given": [[slot, directions] for slot, directions in self._given.items()],
        }

    def _restore(self, kept: Mapping[str, Any]) -> None:
        try:
            for name, channel in kept["channels"].items():
                feed = self.feeds.get(name)
                if feed is not None and feed.is_power == ("watts" in channel):
                    kind = PowerChannel if feed.is_power else Channel
                    self.channels[name] = kind.from_dict(feed.rules, channel)
            for slot, name, direction, wh, quality in kept["parts"]:
                if name in self.feeds:
                    self._parts.setdefault(slot, {})[name, direction] = (wh, quality)
            self._given = {int(slot): list(known) for slot, known in kept["given"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckFailed(f"the state of the intervals cannot be read: {error!r}") from None
