# SPDX-License-Identifier: Apache-2.0
"""From a payload to samples: through the adapter, by channel, at the time it was measured.

A device's own clock is believed while it agrees with ours. One that is off is not, but its
readings are taken at the time they came; a payload whose stamp stands still is stale and left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dao.errors import BadUse, CheckFailed
from meters.adapters.engine import MeterReading, Options, load_adapter, parse
from meters.adapters.fields import load_json, member, number
from meters.gateway.intervals import Feed, PowerSample, Sample
from meters.gateway.settings import STREAMS, SourceSettings
from meters.readings import Quality

APART_S = 7_200.0
"""Two clocks so far apart: nobody knows which one is wrong, and neither is believed."""


@dataclass
class Sampler:
    """One source's payloads as samples, and what was wrong with them.

    identity: the meter that a source without channels has shown; another one is not mixed in.
    """

    settings: SourceSettings
    key: bytes | None = None
    identity: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    last_problem: str | None = None
    drift_s: float = 0.0
    _late_s: dict[str, float] = field(default_factory=dict)

    def feeds(self) -> list[Feed]:
        """The source's parts in the metering point: one, or one for each channel."""
        plain = self.settings.feed
        if not self.settings.channels:
            return [plain]
        return [
            Feed(f"{plain.name}/{channel}", plain.rules, plain.directions, plain.crossed)
            for channel in self.settings.channels
        ]

    def take(self, payload: bytes, received: float) -> list[tuple[str, Sample | PowerSample]]:
        """The samples in a payload that came at `received` (unix seconds); none if it is bad."""
        try:
            if self.settings.power is not None:
                return [(self.settings.name, self._power(payload, received))]
            adapter = load_adapter(STREAMS.get(self.settings.kind, self.settings.kind))
            options = Options(timezone=self.settings.timezone, key=self.key)
            found = parse(adapter, [(self.settings.name, payload)], options)
        except (BadUse, CheckFailed) as error:
            self._fault("damaged" if isinstance(error, CheckFailed) else "unreadable", str(error))
            return []
        return self.of_readings(found.readings, received)

    def of_readings(
        self, readings: list[MeterReading], received: float
    ) -> list[tuple[str, Sample | PowerSample]]:
        """The samples that registers make; intervals and invalid values make none."""
        samples: list[tuple[str, Sample | PowerSample]] = []
        usable = [one for one in readings if one.register and one.quality == Quality.MEASURED]
        if not usable and readings:
            self._fault("no_register", f"{self.settings.name}: no valid register in the payload")
        names = {one.meter or "" for one in usable}
        if not self.settings.channels and len(names) > 1:
            listed = ", ".join(sorted(names))
            self._fault(
                "channels",
                f"{self.settings.name} shows several meters ({listed}): name those to add up "
                "under channels",
            )
            return []
        for one in usable:
            feed = self._feed_of(one.meter or "")
            if feed is None:
                continue
            at = self._time(feed, None if one.end is None else one.end.timestamp(), received)
            if at is not None:
                samples.append((feed, Sample(at, one.import_wh, one.export_wh)))
        return samples

    def _feed_of(self, meter: str) -> str | None:
        if self.settings.channels:
            return f"{self.settings.name}/{meter}" if meter in self.settings.channels else None
        if self.identity is None:
            self.identity = meter
        elif self.identity != meter:
            self._fault(
                "another_meter",
                f"{self.settings.name} shows meter {meter}, not {self.identity}: start the gateway "
                "anew if it was exchanged",
            )
            return None
        return self.settings.name

    def _time(self, feed: str, stamp: float | None, received: float) -> float | None:
        """When the device measured; None for a stale payload."""
        if stamp is None:
            return received
        late = received - stamp
        if self.settings.kind == "ocpp" and late >= -self.settings.clock_s:
            # A charge point has its time from us, and sends later what it measured while away.
            return stamp
        before = self._late_s.get(feed)
        self._late_s[feed] = late
        if abs(late) <= self.settings.clock_s:
            self.drift_s = 0.0
            return stamp
        if abs(late) > APART_S:
            self._fault(
                "clock_apart",
                f"{self.settings.name}: its clock is {-late:+.0f} s off ours: set the wrong one",
            )
            return None
        if before is None or abs(late - before) > self.settings.clock_s:
            self._fault("stale", f"{self.settings.name}: a payload of {late:+.0f} s ago")
            return None
        self.drift_s = -late
        self.faults["clock"] += 1
        self.last_problem = f"{self.settings.name}: its clock is {-late:+.0f} s off"
        return received

    def _power(self, payload: bytes, received: float) -> PowerSample:
        assert self.settings.power is not None
        document = load_json(payload)
        watts = number(member(document, self.settings.power), self.settings.power)
        if watts is None:
            raise BadUse(f"{self.settings.name}: no {self.settings.power} in the payload")
        return PowerSample(received, float(watts))

    def _fault(self, kind: str, text: str) -> None:
        self.faults[kind] += 1
        self.last_problem = text
