# SPDX-License-Identifier: Apache-2.0
"""`/my-data/v1/...` over HTTP, on a real chain and a real lake: whose signature gets what.

It lies here, beside what it guards, because it needs this folder's town.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dao.chain import LocalAccount
from dao.eip712 import address_bytes, sign_digest
from dao.relay.limits import Buckets, Rate
from dashboard import identity
from dashboard.identity import Person
from dashboard.repositories.marks import marks
from dashboard.repositories.own_data import grants_of
from dashboard.routes import my_data as route
from dashboard.settings import Settings
from meters.consent import access_data, erasure_data, erasure_digest, record_data, revocation_data
from meters.disclosure import read
from meters.grants import (
    Grant,
    access_digest,
    record_digest,
    revocation_digest,
    typed_data,
)
from meters.lake import meter_series
from meters.verification import verify
from tests.dashboard.near import Browser, serving
from tests.meters.town import (
    FIRST,
    JUNE_SLOT,
    MAY,
    METER,
    OWNERS,
    READER,
    STRANGER,
    ZONE,
    Town,
    visited,
)

OWNER, NEIGHBOUR = OWNERS[METER - 1], OWNERS[METER]
WIDE = Rate(burst=10**6, per_minute=10**6)
LATER = date(2016, 6, 20)


class Desk:
    """The routes served, and what wallets would send to them."""

    def __init__(self, town: Town, url: str) -> None:
        self.town = town
        self.url = url
        self.browser = Browser(url)

    @property
    def now(self) -> int:
        return self.town.chain.now()

    def post(self, name: str, body: Any, **headers: str) -> requests.Response:
        return self.browser.post(f"/my-data/v1/{name}", body, **headers)

    def grant(self, nonce: int = 1, **changes: Any) -> Grant:
        plain = {
            "meter": METER,
            "reader": address_bytes(READER.address),
            "from_slot": FIRST,
            "to_slot": JUNE_SLOT,
            "expires": self.now + 86_400,
            "nonce": nonce,
        }
        return Grant(**{**plain, **changes})

    def body(self, grant: Grant, by: LocalAccount = OWNER, **more: Any) -> dict[str, Any]:
        message = typed_data(grant, 31_337, self.town.addresses["MeterRegistry"])["message"]
        signature = sign_digest(by.key, grant.digest(self.town.grant_separator))
        return {"grant": message, "signature": "0x" + signature.hex(), **more}

    def given(self, **changes: Any) -> str:
        answer = self.post("grants", self.body(self.grant(**changes)))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def request(self, number: str, by: LocalAccount = READER, **more: Any) -> dict[str, Any]:
        """A reader's request, its challenge asked for and signed."""
        challenge = self.post("challenges", {"grant": number}).json()["challenge"]
        digest = access_digest(self.town.grant_separator, _raw(number), _raw(challenge))
        signature = "0x" + sign_digest(by.key, digest).hex()
        return {"grant": number, "challenge": challenge, "signature": signature, **more}

    def erasure(
        self, month: int = MAY, by: LocalAccount = OWNER, meter: int = METER, ahead: int = 3_600
    ) -> dict[str, Any]:
        deadline = self.now + ahead
        digest = erasure_digest(self.town.grant_separator, meter, month, deadline)
        return {
            "meter": meter,
            "month": f"{1970 + month // 12}-{month % 12 + 1:02d}",
            "deadline": deadline,
            "signature": "0x" + sign_digest(by.key, digest).hex(),
        }


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def problem(answer: requests.Response) -> str:
    said = answer.json()["error"]
    return f"{answer.status_code} {said['field']}: {said['problem']}"


@pytest.fixture
def desk(street: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(route, "_sent", Buckets(WIDE))
    with visited(street, tmp_path, LATER) as town:
        known = Settings(
            home=town.folder,
            rpc=town.chain.url,
            chain_id=town.addresses.chain_id,
            deployment=dict(town.addresses.contracts),
        )
        with serving(lambda: route.routes(known)) as url:
            yield Desk(town, url)


def test_a_reader_reads_over_the_network_and_the_owner_sees_it(desk: Desk) -> None:
    number = desk.given()
    answer = desk.post("readings", desk.request(number, from_slot=FIRST, to_slot=FIRST + 8))
    assert answer.status_code == 200
    assert [row["import_wh"] for row in answer.json()["readings"]] == [
        one.import_wh for one in desk.town.of(METER, FIRST, FIRST + 8)
    ]
    challenge = desk.post("record-challenges", {"meter": METER}).json()["challenge"]
    digest = record_digest(desk.town.grant_separator, METER, _raw(challenge))
    body = {"meter": METER, "challenge": challenge}
    signed = {**body, "signature": "0x" + sign_digest(OWNER.key, digest).hex()}
    (seen,) = desk.post("record", signed).json()["accesses"]
    assert (seen["reader"], seen["outcome"], seen["slots"]) == (READER.address, "read", 8)
    assert desk.post("record", signed).status_code == 403, "a challenge counts once"
    foreign = {**body, "signature": "0x" + sign_digest(NEIGHBOUR.key, digest).hex()}
    assert desk.post("record", foreign).status_code == 403


def test_what_a_reader_gets_with_proof_verifies_against_the_chain(desk: Desk) -> None:
    request = desk.request(desk.given(), from_slot=FIRST, to_slot=FIRST + 4, proof=True)
    answer = desk.post("readings", request)
    checks = verify(read(answer.content, "answer"), desk.town.node, desk.town.addresses)
    assert {one.state for one in checks} == {"passed"}


def test_a_revoked_replayed_foreign_or_wider_request_gets_nothing(desk: Desk) -> None:
    number = desk.given()
    once = desk.request(number, from_slot=FIRST, to_slot=FIRST + 1)
    assert desk.post("readings", once).status_code == 200
    assert "used" in problem(desk.post("readings", once))
    foreign = desk.request(number, by=STRANGER)
    assert "not signed by the reader" in problem(desk.post("readings", foreign))
    wider = desk.request(number, from_slot=JUNE_SLOT, to_slot=JUNE_SLOT + 1)
    assert "does not name these slots" in problem(desk.post("readings", wider))
    digest = revocation_digest(desk.town.grant_separator, METER, _raw(number))
    end = {"meter": METER, "grant": number}
    by_reader = {**end, "signature": "0x" + sign_digest(READER.key, digest).hex()}
    assert desk.post("revocations", by_reader).status_code == 403
    by_owner = {**end, "signature": "0x" + sign_digest(OWNER.key, digest).hex()}
    assert desk.post("revocations", by_owner).json()["state"] == "revoked"
    assert desk.post("revocations", by_owner).status_code == 200, "the same again does no harm"
    refused = desk.post("readings", desk.request(number))
    assert "revoked" in problem(refused)
    assert "nothing was given out" in problem(refused)
    assert desk.post("grants", desk.body(desk.grant())).status_code == 403, "and stays revoked"
    outcomes = [one.outcome.value for one in grants_of(desk.town.folder, METER)[1]]
    assert outcomes == ["revoked", "outside", "foreign", "replayed", "read"]


def test_only_the_owner_of_the_meter_grants(desk: Desk) -> None:
    for by in (NEIGHBOUR, READER, STRANGER):
        assert "not signed by the owner" in problem(
            desk.post("grants", desk.body(desk.grant(), by))
        )
    # Signed by its own owner, then turned to another's meter or another reader.
    body = desk.body(desk.grant(meter=METER + 1), NEIGHBOUR)
    assert desk.post("grants", body).status_code == 201
    for field, value in (("meter", METER), ("reader", STRANGER.address), ("toSlot", 2**40)):
        forged = {**body, "grant": {**body["grant"], field: value}}
        assert desk.post("grants", forged).status_code in (403, 422)
    unknown = desk.post("grants", desk.body(desk.grant(meter=999)))
    assert "knows no meter 999" in problem(unknown)
    assert grants_of(desk.town.folder, METER) == ([], [])


def test_a_name_is_kept_only_from_the_owners_own_browser(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "<script>alert(1)</script>  Energy\nAdvice " + "x" * 99
    known = marks(Settings(home=desk.town.folder))
    assert desk.post("grants", desk.body(desk.grant(), name=script)).status_code == 201
    assert known.names(METER) == {}
    me = Person(OWNER.address, (METER,))
    monkeypatch.setattr(identity, "person_of", lambda *_: me)
    assert desk.post("grants", desk.body(desk.grant(), name=script)).status_code == 200
    (name,) = known.names(METER).values()
    assert name == "<script>alert(1)</script> Energy Advice " + "x" * 20


def test_a_month_goes_only_by_its_owners_signature(desk: Desk) -> None:
    def values() -> int:
        series = meter_series(desk.town.lake, ZONE, METER, FIRST, JUNE_SLOT - FIRST)
        return int(series["import_wh"].notna().sum())

    before = values()
    assert before > 100
    for by in (NEIGHBOUR, READER, STRANGER):
        assert "not signed by the owner" in problem(desk.post("erasures", desk.erasure(by=by)))
    signed = desk.erasure()
    for field, value in (("month", "2016-04"), ("meter", METER + 1), ("deadline", desk.now + 9)):
        assert desk.post("erasures", {**signed, field: value}).status_code == 403
    assert "too old" in problem(desk.post("erasures", desk.erasure(ahead=-1)))
    assert "more than a week" in problem(desk.post("erasures", desk.erasure(ahead=8 * 86_400)))
    for trick in ("2016-05/../2016-04", "../../etc", "2016-5", "2016-13", "٢٠١٦-05", 556, None):
        assert desk.post("erasures", {**signed, "month": trick}).status_code == 422, trick
    early = problem(desk.post("erasures", desk.erasure(MAY + 1)))
    assert "is not over" in early
    assert "nothing was erased" in early
    assert values() == before

    done = desk.post("erasures", signed)
    assert (done.status_code, done.json()["state"]) == (201, "done")
    assert values() == 0
    assert desk.post("erasures", signed).json()["state"] == "done", "the same again does no harm"
    assert desk.post("erasures", desk.erasure(by=STRANGER)).status_code == 403


def test_wallets_sign_what_the_store_checks(desk: Desk) -> None:
    registry = desk.town.addresses["MeterRegistry"]
    separator, number, challenge = desk.town.grant_separator, b"\1" * 32, b"\2" * 32
    for document, digest in (
        (
            revocation_data(METER, number, 31_337, registry),
            revocation_digest(separator, METER, number),
        ),
        (
            access_data(number, challenge, 31_337, registry),
            access_digest(separator, number, challenge),
        ),
        (
            record_data(METER, challenge, 31_337, registry),
            record_digest(separator, METER, challenge),
        ),
        (
            erasure_data(METER, MAY, 9, 31_337, registry),
            erasure_digest(separator, METER, MAY, 9),
        ),
    ):
        signed = Account.sign_message(encode_typed_data(full_message=document), OWNER.key)
        assert bytes(signed.signature) == sign_digest(OWNER.key, digest)


def test_another_page_cannot_send_and_sizes_are_capped(desk: Desk) -> None:
    body = desk.body(desk.grant())
    assert desk.post("grants", body, Origin="https://evil.example").status_code == 403
    assert desk.post("grants", body, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert desk.post("grants", {"x": "y" * 40_000}).status_code == 413
    plain = requests.post(f"{desk.url}/my-data/v1/grants", data=json.dumps(body), timeout=20)
    assert plain.status_code == 415
    wide = desk.given(nonce=2, to_slot=FIRST + 40_000)
    assert "at most 2976 slots" in problem(desk.post("readings", desk.request(wide)))


def test_who_asks_too_often_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "_sent", Buckets(Rate(burst=2, per_minute=1)))
    asked = [desk.post("challenges", {"grant": "0x" + "00" * 32}).status_code for _ in range(3)]
    assert asked == [404, 404, 429]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["meter", "grant", "signature", "challenge", "month", "deadline", "name", "from_slot", "proof"]
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.sampled_from(["grants", "revocations", "challenges", "readings", "erasures"]),
    body=values | st.dictionaries(NAMES, values, max_size=5),
)
def test_no_body_breaks_it(desk: Desk, where: str, body: Any) -> None:
    assert 400 <= desk.post(where, body).status_code < 500
