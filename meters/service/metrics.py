# SPDX-License-Identifier: Apache-2.0
"""What Prometheus may know of a collector: counts and ages, never a meter's number or a value.

A label has a few fixed words only. A number per meter would tell when a home is away, and would
cost memory by the million.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client import Counter as PromCounter
from prometheus_client import Gauge as PromGauge

from meters.collector import ReceiveReport

# When a counter was made says nothing here, and doubles the page.
disable_created_metrics()

TRANSPORTS = ("http", "mqtt")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The service's counters since its start; `page` is what Prometheus reads."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._begun = steady()
        self._heard: dict[str, float] = {}
        self.accepted = 0
        self.duplicates = 0
        self.late = 0
        self.rejected: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()
        self.malformed = 0
        self._registry = CollectorRegistry()
        self._readings = self._counter("readings", "Readings by what became of them.", "outcome")
        self._rules = self._counter("readings_rejected", "Rejected readings by rule.", "rule")
        self._frames = self._counter(
            "frames", "Frames by how they came and were answered.", "transport", "answer"
        )
        self._turned = self._counter("turned_away", "Frames not taken, by reason.", "reason")
        self._dispatch = self._counter("dispatch_reports", "Dispatch reports.", "outcome")
        self._failures = self._counter("commit_failures", "Failed attempts to commit.")
        self._commits = self._counter("commits", "Batches brought to the ledger.", "version")
        self._gauges: dict[str, PromGauge] = {}

    # What happens

    def took(self, transport: str, report: ReceiveReport) -> None:
        """A frame was written."""
        self._heard[transport] = self._steady()
        self.accepted += report.accepted
        self.duplicates += report.duplicates
        self.late += report.late
        self._frames.labels(transport, "acknowledged").inc()
        for outcome, count in (
            ("accepted", report.accepted - report.late),
            ("late", report.late),
            ("duplicate", report.duplicates),
            ("rejected", len(report.rejected)),
        ):
            if count:
                self._readings.labels(outcome).inc(count)
        for rule, count in Counter(finding.rule for finding in report.rejected).items():
            self.rejected[rule] += count
            self._rules.labels(rule).inc(count)

    def refused(self, transport: str, reason: str) -> None:
        """A frame was not taken and may come again."""
        self.busy[reason] += 1
        self._turned.labels(reason).inc()
        self._frames.labels(transport, "busy").inc()

    def was_malformed(self, transport: str) -> None:
        """Something came that is no frame."""
        self.malformed += 1
        self._frames.labels(transport, "malformed").inc()

    def reported(self, outcome: str) -> None:
        """A dispatch report came: stored, known or refused."""
        self._dispatch.labels(outcome).inc()

    def committed(self, version: int) -> None:
        """A batch, or its correction, stands on chain."""
        self._commits.labels(str(version)).inc()

    def commit_failed(self) -> None:
        """An attempt to commit did not succeed."""
        self._failures.inc()

    def seconds_since_reading(self) -> float | None:
        """Since any frame was written; None before the first."""
        return self._steady() - max(self._heard.values()) if self._heard else None

    # What is

    def set(self, name: str, value: float | None, help_text: str) -> None:
        """A gauge of this moment; None leaves it out of sight as NaN."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = PromGauge(f"gridcommons_{name}", help_text, registry=self._registry)
            self._gauges[name] = gauge
        gauge.set(float("nan") if value is None else value)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        for transport in TRANSPORTS:
            since = self._steady() - self._heard.get(transport, self._begun)
            self.set(
                f"seconds_since_reading_{transport}",
                since,
                "Seconds since a frame was written, or since the start.",
            )
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> PromCounter:
        return PromCounter(f"gridcommons_{name}", help_text, labels, registry=self._registry)
