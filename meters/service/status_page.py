# SPDX-License-Identifier: Apache-2.0
"""The status page: one HTML file without script, image or foreign host, from the status document.

It draws what `status.py` found; it looks nothing up.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--ground:#f6f7f5;--card:#fff;--ink:#1c2320;--soft:#5d6a64;
--line:#dfe4e0;--good:#1a7f4b;--bad:#b3261e;--warn:#8a5a00;--bar:#2f8f5f;--rest:#d9dfda}
@media(prefers-color-scheme:dark){:root{--ground:#121614;--card:#1b211e;--ink:#e6ebe8;
--soft:#9aa8a1;--line:#2c3531;--good:#5fd093;--bad:#ff8a80;--warn:#f0c060;--bar:#48b37d;
--rest:#33403a}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline;margin-bottom:1rem}
h1{font-size:1.4rem;margin:0}
h2{font-size:1rem;margin:0 0 .5rem}
header p{margin:0;color:var(--soft)}
dd.when{white-space:nowrap}.state{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.notes{list-style:none;margin:0 0 1rem;padding:0}
.notes li{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--warn);
border-radius:.4rem;padding:.5rem .75rem;margin-bottom:.5rem}
.notes li.bad{border-left-color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem}
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:.2rem 1rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.bar{display:flex;height:.6rem;border-radius:.3rem;overflow:hidden;background:var(--rest);
margin:.25rem 0 .75rem}
.bar svg{display:block;width:100%;height:100%}
footer{margin-top:1.5rem;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
"""

_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_REFRESH_S = 30


def page(status: Mapping[str, Any]) -> str:
    """The whole page."""
    zone = status["zone"]
    word, tone = ("All is well", "good") if status["ok"] else ("Something is wrong", "bad")
    notes = "".join(
        f"<li{tone}>{escape(str(text))}</li>"
        for tone, texts in ((" class=bad", status["problems"]), ("", status["warnings"]))
        for text in texts
    )
    cards = "".join(
        [
            _card("Ledger", _ledger(status["ledger"], status["node"])),
            _card("Inbox", _inbox(status["inbox"], status["traffic"])),
            _card("Meters", _meters(status["meters"])),
            _card("Readings since the start", _traffic(status["traffic"])),
            _card("Quality of the last batch", _quality(status["ledger"]), _bar(status["ledger"])),
            _card("Connections", _connections(status)),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_S}">'
        f"<title>Collector of zone {zone}: {word.lower()}</title>"
        f"<style>{_STYLE}</style></head><body><main>"
        f"<header><h1>Collector of zone {zone}</h1>"
        f'<p class="state {tone}" role="status">{word}</p>'
        f"<p>running for {span(status['running_s'])}</p></header>"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}"
        f'<div class="cards">{cards}</div>'
        f"<footer>Chain {status['chain_id']}, ledger {escape(status['ledger_address'])}, "
        f"collector {escape(status['collector'])}. Times are UTC. The page renews itself every "
        f"{_REFRESH_S} seconds.</footer></main></body></html>"
    )


Row = tuple[str, str, str]
"""What, how much, and the tone of it."""


def _card(title: str, rows: Iterable[Row], before: str = "") -> str:
    drawn = "".join(
        f"<dt>{escape(what)}</dt><dd{f' class={tone}' if tone else ''}>{escape(value)}</dd>"
        for what, value, tone in rows
    )
    return f"<section><h2>{escape(title)}</h2>{before}<dl>{drawn}</dl></section>"


def _ledger(ledger: Mapping[str, Any], node: Mapping[str, Any]) -> list[Row]:
    late = ledger["late_s"]
    rows = [("complete until", moment_of_slot(ledger["until_slot"]), "when")]
    if not ledger["commits"]:
        return [*rows, ("commits", "no: --no-commit", "warn")]
    rows += [
        ("last commit", _moment(ledger["last_commit"], "none since the start"), "when"),
        ("to be committed", f"{ledger['uncommitted']:,}", ""),
        ("next batch from", moment_of_slot(ledger["next_slot"]), "when"),
        ("due", _moment(ledger["due_at"]), "when"),
        ("late by", span(late) if late else "nothing", "bad" if late > 3_600 else ""),
        ("waits for", ledger["waits_for"] or "nothing", ""),
        ("corrections due", f"{ledger['corrections_due']:,}", ""),
    ]
    return rows if node["ok"] else [*rows, ("node", "does not answer", "bad")]


def _inbox(inbox: Mapping[str, Any], traffic: Mapping[str, Any]) -> list[Row]:
    return [
        ("readings waiting", f"{inbox['waiting']:,}", ""),
        ("came late", f"{inbox['late']:,}", ""),
        ("frames queued", f"{traffic['queued_frames']:,}", ""),
        ("size", size(inbox["bytes"]), ""),
        ("disk left", size(inbox["disk_free_bytes"]), ""),
    ]


def _meters(meters: Mapping[str, Any]) -> list[Row]:
    silent = meters["silent"]
    return [
        ("registered", f"{meters['registered']:,}", ""),
        ("not heard since the start", f"{meters['not_heard']:,}", ""),
        *((f"silent for {name[:-1]} h", f"{count:,}", "") for name, count in silent.items()),
        ("with gaps", f"{meters['with_gaps']:,}", ""),
        ("two stories", f"{meters['forks']:,}", "warn" if meters["forks"] else ""),
    ]


def _traffic(traffic: Mapping[str, Any]) -> list[Row]:
    rejected, turned = traffic["rejected"], traffic["turned_away"]
    since = traffic["seconds_since_reading"]
    return [
        ("last one", "none yet" if since is None else f"{span(since)} ago", ""),
        ("accepted", f"{traffic['accepted']:,}", ""),
        ("known already", f"{traffic['duplicates']:,}", ""),
        *((f"rejected: {_words(rule)}", f"{n:,}", "") for rule, n in sorted(rejected.items())),
        *((f"turned away: {_words(why)}", f"{n:,}", "") for why, n in sorted(turned.items())),
        ("no frame at all", f"{traffic['malformed']:,}", ""),
    ]


def _quality(ledger: Mapping[str, Any]) -> list[Row]:
    shares = ledger["quality"]
    if not shares:
        return [("no batch yet", "", "")]
    return [(name, f"{100 * share:.1f} %", "") for name, share in shares.items()]


def _bar(ledger: Mapping[str, Any]) -> str:
    """The measured share, drawn as an attribute: inline styles are not allowed here."""
    share = ledger["quality"].get("measured")
    if share is None:
        return ""
    width = 100 * share
    return (
        '<div class="bar"><svg viewBox="0 0 100 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{width:.0f} % measured"><rect width="{width:.2f}" height="1" '
        'fill="var(--bar)"/></svg></div>'
    )


def _connections(status: Mapping[str, Any]) -> list[Row]:
    node_ok, mqtt = status["node"]["ok"], status["mqtt"]
    rows = [
        (
            "node",
            "answers" if node_ok else "does not answer",
            "good" if node_ok else "bad",
        )
    ]
    if mqtt is None:
        rows.append(("MQTT", "not used", ""))
    else:
        ok = mqtt["connected"]
        rows += [
            ("MQTT", "connected" if ok else "away", "good" if ok else "bad"),
            ("since", span(mqtt["for_s"]), ""),
            ("broker", str(mqtt["broker"]).rpartition("/")[2], ""),
        ]
    return [*rows, ("dispatch reports", f"{status['dispatch_reports']:,}", "")]


def _words(name: str) -> str:
    return name.replace("_", " ")


def moment_of_slot(slot: int | None) -> str:
    """When a slot begins, as people read it."""
    return _moment(slot * 900) if slot else "not begun"


def _moment(seconds: int | None, never: str = "not yet") -> str:
    if seconds is None:
        return never
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """Seconds as people say them."""
    whole = int(seconds)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= 2 * unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"


def size(count: int) -> str:
    """Bytes as people say them."""
    value = float(count)
    for name in ("B", "KiB", "MiB"):
        if value < 1_024:
            return f"{value:.0f} {name}"
        value /= 1_024
    return f"{value:.1f} GiB"
