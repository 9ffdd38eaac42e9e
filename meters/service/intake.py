# SPDX-License-Identifier: Apache-2.0
"""The door: how much a source may send, and the signed answer once a frame is on disk.

A source is a client's address over HTTP, a gateway's id over MQTT: known before any signature is
checked. Both transports come through here; what they speak is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dao.errors import CheckFailed
from dao.relay.limits import Buckets, Rate
from meters.acknowledgements import Acknowledgement
from meters.collector import FrameReport
from meters.frames import MAX_FRAME_BYTES
from meters.service.metrics import Metrics
from meters.service.writer import Busy, Writer, readings_in

log = logging.getLogger("gridcommons.collector")

# What costs the collector work and the sender nothing: these count against the source.
_COSTLY = ("signature", "unknown_meter", "sequence", "previous")
_MALFORMED_COSTS = 8
# What a key or a meter that the registry got a moment ago would mend.
_OF_THE_REGISTRY = frozenset(("signature", "unknown_meter"))
_NODE_AWAY_S = 60
_REGISTRY_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Limits:
    """What one source may send. readings: all of its readings. bad: those whose signature, meter or
    chain does not hold; once they are used up the source waits."""

    readings: Rate = field(default_factory=lambda: Rate(burst=65_536, per_minute=60_000))
    bad: Rate = field(default_factory=lambda: Rate(burst=64, per_minute=32))


class Malformed(Exception):
    """What came is no frame: the same bytes will never be taken."""


class Heard:
    """When a meter was last heard, in steady seconds."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self.begun = steady()
        self._last: dict[int, float] = {}

    def note(self, meter: int) -> None:
        self._last[meter] = self._steady()

    def silent(self, meters: list[int], seconds: float) -> list[int]:
        """The meters not heard for so long; before the start of the service nothing is known."""
        limit = self._steady() - seconds
        return [meter for meter in meters if self._last.get(meter, self.begun) <= limit]

    def seconds(self, meter: int) -> int:
        """For how long a meter has been silent, at least."""
        return round(self._steady() - self._last.get(meter, self.begun))

    def never(self, meters: list[int]) -> int:
        """How many were not heard since the service began."""
        return sum(meter not in self._last for meter in meters)


class Intake:
    """Takes frames from both transports. Belongs to the event loop.

    sign: puts the collector's signature to an acknowledgement; may take a moment. follow: takes in
    what the registry has logged after a moment in steady seconds, CheckFailed while nobody can say.
    """

    def __init__(
        self,
        writer: Writer,
        sign: Callable[[Acknowledgement], Acknowledgement],
        metrics: Metrics,
        limits: Limits | None = None,
        steady: Callable[[], float] = time.monotonic,
        follow: Callable[[float], None] = lambda since: None,
    ) -> None:
        bounds = limits or Limits()
        self.metrics = metrics
        self.heard = Heard(steady)
        self._writer = writer
        self._sign = sign
        self._steady = steady
        self._follow = follow
        self._asking: tuple[float, asyncio.Future[None] | None] = (float("-inf"), None)
        self._rate = Buckets(bounds.readings, steady)
        self._bad = Buckets(bounds.bad, steady)
        self._most_bad = 2 * bounds.bad.burst

    def check(self, transport: str, source: str) -> None:
        """Raises Busy for a source that has to wait, before anything of it is read."""
        if wait := self._bad.take((transport, source), 0):
            self.metrics.refused(transport, "refused_before")
            raise Busy(wait, "refused_before")

    def charge(self, transport: str, source: str, readings: int) -> None:
        """Raises Busy for a source that has sent too much of late."""
        if wait := self._rate.take((transport, source), readings):
            self.metrics.refused(transport, "rate")
            raise Busy(wait, "rate")

    async def take(self, transport: str, source: str, frame: bytes) -> Acknowledgement:
        """Have a frame written; the signed acknowledgement once it is on disk.

        Raises Busy where it was not taken, Malformed where it never will be.
        """
        key = (transport, source)
        self.check(transport, source)
        if len(frame) > MAX_FRAME_BYTES:
            self.spoilt(transport, source)
            raise Malformed(f"a frame has at most {MAX_FRAME_BYTES} bytes")
        self.charge(transport, source, readings_in(frame))
        came = self._steady()
        report = await self._written(transport, source, frame)
        if any(finding.rule in _OF_THE_REGISTRY for finding in report.report.rejected):
            report = await self._again(transport, source, frame, report, came)
        self._count(key, report)
        self.metrics.took(transport, report.report)
        return await asyncio.to_thread(self._sign, report.acknowledgement())

    async def _written(self, transport: str, source: str, frame: bytes) -> FrameReport:
        try:
            written = self._writer.submit(frame, f"{transport} {source}")
            # Shielded: who goes away does not take back what is being written.
            report = await asyncio.shield(asyncio.wrap_future(written))
        except Busy as busy:
            self.metrics.refused(transport, busy.why)
            raise
        if report.error is not None:
            self.spoilt(transport, source)
            raise Malformed(report.error)
        return report

    async def _again(
        self, transport: str, source: str, frame: bytes, report: FrameReport, came: float
    ) -> FrameReport:
        """The report by what the registry says now. A rejection is for good, so nothing is
        rejected for a key that we could not know of: while the node is away the frame waits."""
        try:
            async with asyncio.timeout(_REGISTRY_PATIENCE_S):
                await self._followed(came)
        except Exception as error:  # a node behind a proxy may answer anything
            if not isinstance(error, CheckFailed | TimeoutError):
                log.exception("the registry cannot be followed")
            self._count((transport, source), report)
            self.metrics.refused(transport, "registry")
            raise Busy(_NODE_AWAY_S, "registry") from None
        again = await self._written(transport, source, frame)
        # What the first try took is known already to the second, and was new all the same.
        first, second = report.report, again.report
        took = min(first.accepted, second.duplicates)
        return replace(
            again,
            report=replace(
                second,
                accepted=second.accepted + took,
                duplicates=second.duplicates - took,
                late=second.late + min(first.late, took),
            ),
        )

    async def _followed(self, came: float) -> None:
        """Have the registry asked once for all who wait, and never by more than one thread: a
        node that hangs must not hold up anybody else."""
        while True:
            begun, asking = self._asking
            if asking is None or asking.done():
                if begun >= came and asking is not None:
                    break
                begun = self._steady()
                asking = asyncio.ensure_future(asyncio.to_thread(self._follow, begun))
                self._asking = begun, asking
            with contextlib.suppress(Exception):
                await asyncio.shield(asking)
        asking.result()

    def spoilt(self, transport: str, source: str) -> None:
        """The source sent something that makes no sense."""
        self._bad.take((transport, source), _MALFORMED_COSTS)
        self.metrics.was_malformed(transport)

    def _count(self, key: tuple[str, str], report: FrameReport) -> None:
        rejected = report.report.rejected
        bad = sum(finding.rule in _COSTLY for finding in rejected)
        if bad:  # not without end: others may share the address
            self._bad.take(key, min(bad, self._most_bad))
        # A meter is heard when something of it was taken: anybody can name one in vain.
        refused = {finding.meter for finding in rejected}
        for meter in report.heads:
            if meter not in refused:
                self.heard.note(meter)
