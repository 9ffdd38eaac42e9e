# SPDX-License-Identifier: Apache-2.0
"""An order's evidence as one ZIP file: what each piece shows, what can still be done, by whom and
until when. The file checks itself (`gridcommons meter evidence FILE --rpc URL`).

Pure: what there is was gathered in `repositories/evidence.py`. Times in unix seconds of the chain.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from dao.errors import BadUse, CheckFailed
from dao.json_input import parse
from dao.market.orders import market_separator
from dao.node import Addresses, Node
from dao.relay.promise import Promise, Verdict, signer
from dao.slots import SLOT_SECONDS
from dashboard.i18n import Formats, Locale, _, speaking
from dashboard.repositories.evidence import Evidence
from dashboard.repositories.relay import Promised
from dashboard.services.orders import receipt
from dashboard.services.program_words import in_words
from meters import disclosure as disclosing
from meters.verification import Check, verify

FORMAT = "gridcommons evidence 1"
MAX_ZIP = 8 << 20
MAX_UNPACKED = 64 << 20
README, MANIFEST = "README.txt", "manifest.json"


# What became of the promise


def promise_of(told: Promised) -> Promise:
    """The promise that a relay tells of. BadUse where it is none."""
    try:
        number = bytes.fromhex(told.order.removeprefix("0x"))
    except ValueError:
        raise BadUse("the relay's promise names no order") from None
    return Promise(number, told.account, told.session, told.post_before, told.market)


def promised_by(chain_id: int, told: Promised) -> str | None:
    """Who signed a promise, None where the signature is none or the relay's name is another's."""
    try:
        found = signer(chain_id, promise_of(told), bytes.fromhex(told.signature.removeprefix("0x")))
    except (BadUse, ValueError):
        return None
    return found if found.lower() == told.relay.lower() else None


def verdict(one: Evidence) -> Verdict | None:
    """What became of the promise by the chain's events that this dashboard has read; None where
    none is known, or where it is about something else. `dao.relay.promise.verdict` asks a node."""
    told = one.promise
    if told is None or told.order != one.digest:
        return None
    posted = next(p for p in one.facts.book if one.view.key and p.position == one.view.key[1])
    if posted.at < told.post_before:
        return Verdict.KEPT
    if one.revoked_at is not None and one.revoked_at < told.post_before:
        return Verdict.RELEASED
    if one.paused:
        return Verdict.RELEASED
    return Verdict.NOT_YET_DUE if one.now < told.post_before else Verdict.BROKEN


# What can still be done


@dataclass(frozen=True)
class Remedy:
    """Something that can be done. until: None for no end; possible: whether it can be now."""

    what: str
    who: str
    until: int | None
    possible: bool


def remedies(one: Evidence) -> list[Remedy]:
    """What can still be done about an order, in the order of what helps most."""
    session = one.facts.session
    end = (session.first_slot + session.slots) * SLOT_SECONDS
    adjust = end + one.finality
    done = one.view.net is not None
    found = []
    if not done:
        found.append(
            Remedy(
                _(
                    "The session is not settled. Your meter's receipt can still be handed in; "
                    "what it does not prove counts as not delivered."
                ),
                _("anybody who has the receipt: you, the relay, the operator"),
                None,
                True,
            )
        )
    if one.window is not None:
        opens, closes = one.window
        found.append(
            Remedy(
                _(
                    "A published batch of readings can be corrected once, as a whole. It changes "
                    "what the zone is told to have used, and no payment."
                ),
                _("the collector of the zone, opened by you with a message to the operator"),
                closes,
                opens <= one.now < closes,
            )
        )
    found.append(
        Remedy(
            _(
                "A meter that proved too much can take it back after settlement: the seller gives "
                "the price back, the buyers share it. Only downwards, once for each quarter-hour."
            ),
            _("anybody with the device's signed correction"),
            adjust,
            done and one.now <= adjust,
        )
    )
    found.append(
        Remedy(
            _(
                "A device that signed two different receipts for one session loses its key from "
                "that session on (MeterRegistry.report_conflict)."
            ),
            _("anybody who holds both receipts"),
            None,
            len(one.receipts) > 1,
        )
    )
    found.append(
        Remedy(
            _(
                "If the market itself goes wrong, the guardian can pause it once for three days, "
                "and the members can vote on what follows. Neither pays a single order back."
            ),
            _("the guardian; the members"),
            None,
            True,
        )
    )
    return found


# The file


def package_name(one: Evidence) -> str:
    """The file's name: of numbers only."""
    session, position = one.view.key or (0, 0)
    return f"evidence-{one.account}-{session}-{position}.zip"


def package(one: Evidence, locale: Locale | None = None) -> bytes:
    """The evidence as a ZIP file; the same evidence makes the same file."""
    with speaking(locale or Locale()):
        pieces = _pieces(one)
        pieces[README] = _readme(one, Formats(locale or Locale())).encode()
    manifest = {
        "format": FORMAT,
        "chain_id": one.chain_id,
        "zone": one.zone,
        "meter": one.account,
        "contracts": one.contracts,
        "as_of": one.now,
        "pieces": {name: "0x" + sha256(data).hexdigest() for name, data in sorted(pieces.items())},
        "absent": one.absent,
    }
    pieces[MANIFEST] = _json(manifest)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in sorted(pieces.items()):
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _pieces(one: Evidence) -> dict[str, bytes]:
    market = one.contracts["EnergyMarket"]
    order = receipt(one.view, chain_id=one.chain_id, market=market, zone=one.zone)
    pieces = {"order.json": _json(order), "events.json": _json(_events(one))}
    if one.promise is not None:
        word = verdict(one)
        told = {"promise": asdict(one.promise), "verdict": word.value if word else None}
        pieces["promise.json"] = _json(told)
    if one.disclosure is not None:
        pieces["readings.json"] = _json(disclosing.document(one.disclosure))
    if one.receipts:
        separator = market_separator(one.chain_id, market)
        pieces["receipts.json"] = _json(
            {
                "meter": one.account,
                "first_slot": one.facts.session.first_slot,
                "domain_separator": "0x" + separator.hex(),
                "receipts": [
                    {"exports": list(r.exports), "signature": "0x" + r.signature.hex()}
                    for r in one.receipts
                ],
            }
        )
    return pieces


def _events(one: Evidence) -> dict[str, Any]:
    """What the chain's events say, of this order and of its session as a whole: no other order's
    account or energy is in it."""
    facts, position = one.facts, (one.view.key or (0, 0))[1]
    posted = next(p for p in facts.book if p.position == position)
    return {
        "market": one.contracts["EnergyMarket"],
        "session": asdict(facts.session),
        "posted": {"transaction": posted.tx, "block": posted.block, "at": posted.at},
        "cleared": [asdict(slot) for slot in facts.cleared],
        "slots_settled": [asdict(slot) for slot in facts.settled],
        "settled": [asdict(run) for run in facts.runs if run.position == position],
        "voided": [asdict(void) for void in facts.voided],
        "adjustments": [asdict(made) for made in one.corrections],
        "taken_back_at": one.revoked_at,
        "paused_at_the_gate": one.paused,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def piece_words(one: Evidence) -> list[tuple[str, str]]:
    """Each piece of the file, or what is missing of it, and what it shows."""
    found = [
        (
            "order.json",
            _(
                "Your order as it was signed, its fills, money and steps with their transactions. "
                "Its digest is what your wallet signed."
            ),
        ),
        (
            "events.json",
            _(
                "What the chain says of the session: prices, deliveries, penalties, corrections, "
                "each with its transaction. Anybody can look them up."
            ),
        ),
    ]
    if one.promise is not None:
        found.append(("promise.json", _promise_words(one)))
    if one.disclosure is not None:
        edited = sum(slot.edits for slot in one.disclosure.slots)
        found.append(
            (
                "readings.json",
                _(
                    "What your meter signed for the session, proved against the ledger. The "
                    "collector edited {number} of its values; each edit is in it with what it was "
                    "made from. It opens these readings to whoever gets the file."
                ).format(number=edited),
            )
        )
    if one.receipts:
        words = (
            _(
                "Two different receipts that your device signed for the same session: its key "
                "can be ended with them."
            )
            if len(one.receipts) > 1
            else _("What your device signed to have fed in, as the relay has it.")
        )
        found.append(("receipts.json", words))
    names = {
        "promise": _("The relay's promise"),
        "disclosure": _("Your readings"),
        "receipts": _("Your device's receipt"),
        "window": _("The time for corrections"),
    }
    for name, why in one.absent.items():
        words = _("not in the file: {why}").format(why=in_words(why))
        found.append((names.get(name, name), words))
    return found


def _promise_words(one: Evidence) -> str:
    if one.promise is not None and promised_by(one.chain_id, one.promise) is None:
        return _(
            "What the relay calls its promise. Its signature does not hold: it proves nothing."
        )
    words = {
        Verdict.KEPT: _("The relay promised to post your order before the gate, and did."),
        Verdict.BROKEN: _(
            "The relay promised to post your order before the gate, and did not: the promise is "
            "broken. With its signature you can show that to anybody."
        ),
        Verdict.NOT_YET_DUE: _("The relay promised to post your order; there is still time."),
        Verdict.RELEASED: _(
            "The relay promised to post your order, and was released: you took it back, or the "
            "market was paused."
        ),
    }
    found = verdict(one)
    return words[found] if found else _("A promise of the relay, about something else.")


def _readme(one: Evidence, fmt: Formats) -> str:
    session, position = one.view.key or (0, 0)
    lines = [
        _("Evidence about an order in the GridCommons market"),
        "",
        _("Metering point {account}, zone {zone}, delivery from {begin}, place {place}.").format(
            account=one.account,
            zone=one.zone,
            begin=fmt.moment(session * SLOT_SECONDS),
            place=position,
        ),
        _("As of {time}, by the chain's clock.").format(time=fmt.moment(one.now)),
        "",
        _("What is in it"),
    ]
    lines += [f"- {name}: {words}" for name, words in piece_words(one)]
    lines += ["", _("What can still be done")]
    for remedy in remedies(one):
        until = (
            _("no end")
            if remedy.until is None
            else _("until {time}").format(time=fmt.moment(remedy.until))
        )
        state = _("possible now") if remedy.possible else _("not possible now")
        lines.append(f"- {remedy.what} ({remedy.who}; {until}; {state})")
    lines += [
        "",
        _("How to check it"),
        "  gridcommons meter evidence FILE.zip --rpc URL",
        "  gridcommons meter verify readings.json --rpc URL",
        _(
            "The first looks at every piece, the second at the readings alone. Neither needs "
            "anything but the file and a node of the chain."
        ),
    ]
    return "\n".join(lines) + "\n"


# Checking one


def unpack(data: bytes) -> dict[str, bytes]:
    """The pieces of a file. BadUse where it is none, or unpacks to something huge."""
    if len(data) > MAX_ZIP:
        raise BadUse("the file is too large for evidence")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            infos = file.infolist()
            if len(infos) > 16 or sum(info.file_size for info in infos) > MAX_UNPACKED:
                raise BadUse("the file is too large for evidence")
            found = {info.filename: file.read(info) for info in infos}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError):
        raise BadUse("the file is no ZIP file of evidence") from None
    except Exception as error:  # zlib's own, of damaged content
        if isinstance(error, BadUse):
            raise
        raise BadUse("the file is damaged") from None
    if MANIFEST not in found:
        raise BadUse(f"the file has no {MANIFEST}")
    return found


def check(data: bytes, node: Node | None, known: Addresses | None) -> list[Check]:
    """Whether a file of evidence holds: its pieces, the readings, the promise, the transactions."""
    found = unpack(data)
    manifest = _object(found[MANIFEST], MANIFEST)
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("pieces"), dict):
        raise BadUse(f'the format of {MANIFEST} is not "{FORMAT}"')
    checks = [_whole(found, manifest["pieces"])]
    if "readings.json" in found:
        opened = disclosing.read(found["readings.json"], "readings.json")
        for one in verify(opened, node, known):
            checks.append(Check(f"readings, {one.name}", one.state, one.detail))
    if "promise.json" in found:
        checks.append(_promise_check(_object(found["promise.json"], "promise.json"), manifest))
    if "order.json" in found:
        checks.append(_transactions(_object(found["order.json"], "order.json"), node))
    return checks


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = parse(data, MAX_UNPACKED)
    except ValueError as error:
        raise BadUse(f"{name}: {error}") from None
    if not isinstance(value, dict):
        raise BadUse(f"{name} is not an object")
    return value


def _whole(found: Mapping[str, bytes], named: Mapping[str, Any]) -> Check:
    for name, data in found.items():
        if name != MANIFEST and named.get(name) != "0x" + sha256(data).hexdigest():
            return Check("pieces", "failed", f"{name} is not what the manifest names")
    if missing := sorted(set(named) - set(found)):
        return Check("pieces", "failed", f"{missing[0]} is missing")
    return Check("pieces", "passed", f"{len(named)} pieces are as they were put together")


def _promise_check(told: Mapping[str, Any], manifest: Mapping[str, Any]) -> Check:
    try:
        one = Promised(**told["promise"])
        chain_id = int(manifest["chain_id"])
        by = promised_by(chain_id, one)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Check("promise", "failed", "it is no promise")
    if by is None:
        return Check("promise", "failed", "it is not signed by the relay that it names")
    return Check("promise", "passed", f"signed by {by}")


def _transactions(order: Mapping[str, Any], node: Node | None) -> Check:
    steps = order.get("steps")
    hashes = [
        step["transaction"]
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict) and isinstance(step.get("transaction"), str)
    ][:64]
    if node is None:
        return Check("transactions", "not checked", "no node was named")
    market = str(order.get("market")).lower()
    for tx in hashes:
        try:
            answer = node.ask("eth_getTransactionReceipt", tx)
        except CheckFailed as error:
            return Check("transactions", "failed", f"{tx[:18]}: {error}")
        logs = answer.get("logs") if isinstance(answer, dict) else None
        if not logs or all(str(log.get("address")).lower() != market for log in logs):
            return Check("transactions", "failed", f"{tx[:18]} is none of the market's")
    return Check("transactions", "passed", f"{len(hashes)} are on the chain, at the market")
