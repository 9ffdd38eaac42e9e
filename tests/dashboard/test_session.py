# SPDX-License-Identifier: Apache-2.0
"""Signing in with a wallet: what opens a session, and everything that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from dao.anvil import AnvilNode
from dao.chain import LocalAccount
from dao.eip712 import keccak, sign_digest
from dashboard import sessions as store
from dashboard.hosts import cookie_name
from dashboard.routes import session as routes
from dashboard.services import sign_in
from dashboard.sessions import NotSignedIn, Sessions
from dashboard.settings import Settings
from tests.dashboard.near import Browser, serving

ALICE = LocalAccount.from_key(keccak(b"alice"))
MALLORY = LocalAccount.from_key(keccak(b"mallory"))
CHAIN = 31_337


class Clock:
    """Time as the tests want it."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


class Place:
    """The sign-in's routes, with settings and a clock that tests may change."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.settings = Settings(home=Path(), chain_id=CHAIN)


@pytest.fixture(scope="module")
def running() -> Iterator[Place]:
    place = Place("", Clock())
    with serving(lambda: routes.routes(place.settings)) as url:
        place.url = url
        yield place


@pytest.fixture
def place(running: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    running.clock.time = 1_790_000_000.0
    running.settings = Settings(home=Path(), chain_id=CHAIN)
    monkeypatch.setattr(routes, "SESSIONS", Sessions(running.clock))
    return running


@pytest.fixture
def browser(place: Place) -> Browser:
    return Browser(place.url)


def challenge(browser: Browser, address: str = ALICE.address) -> str:
    return str(browser.post("/session/challenge", {"account": address}).json()["message"])


def signed(message: str, signer: LocalAccount = ALICE) -> dict[str, str]:
    raw = sign_digest(signer.key, sign_in.personal_digest(message))
    return {"message": message, "signature": "0x" + raw.hex()}


def enter(browser: Browser, signer: LocalAccount = ALICE) -> requests.Response:
    return browser.post("/session/sign-in", signed(challenge(browser, signer.address), signer))


def cookie(browser: Browser, name: str = routes.SESSION_COOKIE) -> str:
    """The cookie's name at the place that the browser visits."""
    return cookie_name(name, urlsplit(browser.url).netloc)


def problem(answer: requests.Response, status: int) -> str:
    """What is said of a request that was refused with this status, and opened nothing."""
    assert answer.status_code == status
    assert not [one for one in answer.cookies if one.name.startswith(routes.SESSION_COOKIE)]
    return str(answer.json()["error"]["problem"])


def test_a_signed_text_opens_a_session(browser: Browser) -> None:
    answer = enter(browser)
    assert answer.status_code == 200
    assert answer.json()["account"] == ALICE.address
    session = routes.SESSIONS.of_token(browser.session.cookies[cookie(browser)])
    assert session is not None
    assert (session.account, session.chain_id) == (ALICE.address, CHAIN)


def test_the_text_is_as_the_standard_writes_it(browser: Browser, place: Place) -> None:
    lines = challenge(browser).split("\n")
    domain = place.url.removeprefix("http://")
    assert lines[0] == f"{domain} wants you to sign in with your Ethereum account:"
    assert lines[1:4] == [ALICE.address, "", sign_in.STATEMENTS["en"]]
    assert lines[4:8] == ["", f"URI: {place.url}", "Version: 1", f"Chain ID: {CHAIN}"]
    assert lines[8].startswith("Nonce: ")
    assert lines[9] == "Issued At: 2026-09-21T14:13:20Z"
    assert lines[10] == "Expiration Time: 2026-09-21T14:23:20Z"


@pytest.mark.parametrize("language", sign_in.STATEMENTS)
def test_the_sentence_is_in_the_visitors_language_and_opens_a_session_all_the_same(
    browser: Browser, language: str
) -> None:
    assert sign_in.STATEMENTS[language].isascii()  # as the standard has it
    browser.session.headers["Accept-Language"] = f"{language}-AT,en;q=0.5"
    assert challenge(browser).split("\n")[3] == sign_in.STATEMENTS[language]
    assert enter(browser).status_code == 200


def test_the_cookie_is_for_the_browser_alone(browser: Browser) -> None:
    header = enter(browser).headers["Set-Cookie"].lower()
    assert "httponly" in header
    assert "samesite=strict" in header
    assert "max-age=43200" in header
    assert "secure" not in header


def test_two_dashboards_on_one_machine_do_not_sign_each_other_out(place: Place) -> None:
    """A browser sends the cookies of one port to every other port of the same machine."""
    browser = Browser(place.url)
    enter(browser)
    with serving(lambda: routes.routes(place.settings)) as neighbour:
        browser.url = neighbour
        enter(browser, MALLORY)
        browser.post("/session/sign-out", {})
    browser.url = place.url
    session = routes.SESSIONS.of_token(browser.session.cookies[cookie(browser)])
    assert session is not None
    assert session.account == ALICE.address
    # Without a port in its address a dashboard is alone under its name.
    assert cookie_name("c", "grid.example") == cookie_name("c", "[::1]") == "c"


def test_behind_tls_the_cookie_is_secure(place: Place) -> None:
    browser = Browser(place.url)
    origin = place.url.replace("http://", "https://")
    asked = browser.post("/session/challenge", {"account": ALICE.address}, Origin=origin)
    message = asked.json()["message"]
    assert f"URI: {origin}" in message
    cookies = {
        c.split("=")[0]: c.split("=")[1].split(";")[0] for c in [asked.headers["Set-Cookie"]]
    }
    answer = requests.post(
        f"{place.url}/session/sign-in",
        json=signed(message),
        cookies=cookies,
        headers={"Origin": origin},
        timeout=10,
    )
    assert answer.status_code == 200
    assert "secure" in answer.headers["Set-Cookie"].lower()


def test_the_same_text_never_opens_a_second_one(browser: Browser) -> None:
    message = challenge(browser)
    kept = dict(browser.session.cookies)
    assert browser.post("/session/sign-in", signed(message)).status_code == 200
    browser.session.cookies.clear()
    browser.session.cookies.update(kept)
    assert "used before" in problem(browser.post("/session/sign-in", signed(message)), 403)


def test_a_text_for_another_address_of_the_server_is_refused(
    browser: Browser, place: Place
) -> None:
    message = challenge(browser)
    other = place.url.replace("127.0.0.1", "localhost")
    mine = cookie(browser, routes.BROWSER_COOKIE)
    kept = browser.session.cookies[mine]
    answer = requests.post(
        f"{other}/session/sign-in",
        json=signed(message),
        cookies={mine: kept},
        headers={"Origin": other},
        timeout=10,
    )
    assert "it is for 127.0.0.1" in problem(answer, 403)


def test_a_text_for_another_chain_is_refused(browser: Browser, place: Place) -> None:
    message = challenge(browser)
    place.settings = replace(place.settings, chain_id=1)
    assert f"it is for chain {CHAIN}" in problem(
        browser.post("/session/sign-in", signed(message)), 403
    )


def test_an_old_text_is_refused(browser: Browser, place: Place) -> None:
    message = challenge(browser)
    place.clock.time += store.TEXT_S
    assert "expired" in problem(browser.post("/session/sign-in", signed(message)), 403)


def test_a_text_signed_for_somebody_elses_browser_is_refused(place: Place) -> None:
    mallory, alice = Browser(place.url), Browser(place.url)
    text = challenge(mallory)
    challenge(alice)
    # Alice was brought to sign it, and it ends up in either browser: neither gets in.
    assert "not made for this browser" in problem(alice.post("/session/sign-in", signed(text)), 403)
    stranger = Browser(place.url)
    assert "asked for no text" in problem(stranger.post("/session/sign-in", signed(text)), 403)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ALICE.address, MALLORY.address),
        (f"Chain ID: {CHAIN}", "Chain ID: 1"),
        ("Expiration Time: 2026", "Expiration Time: 2036"),
        ("Nonce: ", "Nonce: 0"),
        ("This costs nothing", "This costs everything"),
        ("\n\nURI", "\n\nResources:\n- https://evil.example\n\nURI"),
        ("Version: 1", "Version: 2"),
    ],
)
def test_a_text_that_was_changed_is_refused(browser: Browser, old: str, new: str) -> None:
    message = challenge(browser).replace(old, new)
    signer = MALLORY if new == MALLORY.address else ALICE
    answer = browser.post("/session/sign-in", signed(message, signer))
    assert answer.status_code in (400, 403)
    assert cookie(browser) not in browser.session.cookies


def test_somebody_elses_signature_is_refused(browser: Browser) -> None:
    answer = browser.post("/session/sign-in", signed(challenge(browser), MALLORY))
    assert f"not {ALICE.address}'s" in problem(answer, 403)


@pytest.mark.parametrize("path", ["challenge", "sign-in", "sign-out"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_can_do_nothing(
    browser: Browser, path: str, headers: dict[str, str]
) -> None:
    enter(browser)
    token = browser.session.cookies[cookie(browser)]
    body = {"account": ALICE.address, **signed(challenge(browser))}
    assert browser.post(f"/session/{path}", body, **headers).status_code == 403
    assert routes.SESSIONS.of_token(token) is not None
    assert browser.session.cookies[cookie(browser)] == token


def test_a_form_is_not_taken_for_json(browser: Browser) -> None:
    answer = browser.post("/session/sign-out", {}, **{"Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_a_planted_cookie_is_not_taken_up(browser: Browser) -> None:
    planted = routes.SESSIONS.open(MALLORY.address, CHAIN)
    browser.session.cookies.set(cookie(browser), planted)
    token = enter(browser).cookies[cookie(browser)]
    assert token != planted
    assert routes.SESSIONS.of_token(planted) is None
    made_up = "x" * 43
    assert routes.SESSIONS.of_token(made_up) is None


def test_signing_out_ends_the_session(browser: Browser) -> None:
    enter(browser)
    token = browser.session.cookies[cookie(browser)]
    assert browser.post("/session/sign-out", {}).status_code == 200
    assert cookie(browser) not in browser.session.cookies
    assert routes.SESSIONS.of_token(token) is None


def test_a_session_ends_by_itself(browser: Browser, place: Place) -> None:
    enter(browser)
    token = browser.session.cookies[cookie(browser)]
    place.clock.time += store.SESSION_S
    assert routes.SESSIONS.of_token(token) is None


def test_without_a_chain_nobody_signs_in(browser: Browser, place: Place) -> None:
    place.settings = Settings(home=Path())
    answer = browser.post("/session/challenge", {"account": ALICE.address})
    assert "no contracts" in problem(answer, 503)


@pytest.mark.parametrize("path", ["challenge", "sign-in"])
@pytest.mark.parametrize(
    "body",
    [
        7,
        [],
        "text",
        {},
        {"account": 7},
        {"account": "0x" + "g" * 40},
        {"account": ALICE.address + "\n"},
        {"message": "x", "signature": "0x"},
        {"message": "x" * 1_501, "signature": "0x00"},
        {"message": "\u0000", "signature": "0x" + "00" * 65},
        {"message": ["x"], "signature": {"0x": 1}},
        {"message": "x", "signature": "0x" + "00" * 9_000},
    ],
)
def test_nonsense_is_refused_in_words(browser: Browser, path: str, body: object) -> None:
    challenge(browser)
    answer = browser.post(f"/session/{path}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["accepted"]


def test_too_much_is_refused(browser: Browser) -> None:
    answer = browser.post("/session/challenge", {"account": "x" * 40_000})
    assert answer.status_code == 413


class TestContractWallet:
    # isValidSignature answers with the magic value for the one digest in storage word 0.
    CODE = "0x631626ba7e60e01b600435600054140260005260206000f3"
    ADDRESS = "0x00000000000000000000000000000000C0ffEe01"

    @pytest.fixture(scope="class")
    def node(self) -> Iterator[AnvilNode]:
        with AnvilNode() as node:
            yield node

    @staticmethod
    def rpc(node: AnvilNode, method: str, *params: str) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        assert "error" not in requests.post(node.url, json=call, timeout=10).json()

    @pytest.mark.parametrize("vouches", [True, False])
    def test_signs_in_when_it_vouches(
        self, browser: Browser, place: Place, node: AnvilNode, vouches: bool
    ) -> None:
        place.settings = replace(place.settings, rpc=node.url)
        self.rpc(node, "anvil_setCode", self.ADDRESS, self.CODE)
        message = challenge(browser, self.ADDRESS)
        digest = sign_in.personal_digest(message) if vouches else bytes(32)
        word = "0x" + digest.hex()
        self.rpc(node, "anvil_setStorageAt", self.ADDRESS, "0x" + "00" * 32, word)
        body = {"message": message, "signature": "0x" + "ab" * 97}
        answer = browser.post("/session/sign-in", body)
        assert answer.status_code == (200 if vouches else 403)

    def test_a_node_that_is_away_is_told(self, browser: Browser, place: Place) -> None:
        place.settings = replace(place.settings, rpc="http://127.0.0.1:9")
        body = {"message": challenge(browser), "signature": "0x" + "ab" * 97}
        assert "unreachable" in problem(browser.post("/session/sign-in", body), 503)


class TestStore:
    def test_one_person_has_only_so_many_sessions(self) -> None:
        kept = Sessions(Clock())
        tokens = [kept.open(ALICE.address, CHAIN) for _ in range(store.MAX_SESSIONS_EACH + 1)]
        assert kept.of_token(tokens[0]) is None
        assert all(kept.of_token(one) for one in tokens[1:])

    def test_there_are_only_so_many_sessions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "MAX_SESSIONS", 3)
        kept = Sessions(Clock())
        tokens = [kept.open(f"0x{number:040x}", CHAIN) for number in range(4)]
        assert [kept.of_token(one) is not None for one in tokens] == [False, True, True, True]

    def test_a_ticket_is_good_once_and_not_for_long(self) -> None:
        clock = Clock()
        kept = Sessions(clock)
        token = kept.open(ALICE.address, CHAIN)
        first, second = kept.ticket(token), kept.ticket(token)
        assert kept.redeem(first) == kept.of_token(token)
        assert kept.redeem(first) is None
        clock.time += store.TICKET_S
        assert kept.redeem(second) is None
        assert kept.redeem("made up") is None

    def test_used_texts_are_remembered_as_long_as_they_could_be_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "MAX_USED", 2)
        clock = Clock()
        kept = Sessions(clock)

        def use() -> None:
            text = kept.text("a", "http://a", ALICE.address, CHAIN, "b" * 32)
            kept.use(text, "a", CHAIN, "b" * 32)

        use()
        use()
        with pytest.raises(NotSignedIn, match="too many"):
            use()
        clock.time += store.TEXT_S
        use()

    def test_another_servers_text_is_not_ours(self) -> None:
        clock = Clock()
        text = Sessions(clock).text("a", "http://a", ALICE.address, CHAIN, "b" * 32)
        with pytest.raises(NotSignedIn, match="not made for this browser"):
            Sessions(clock).use(text, "a", CHAIN, "b" * 32)


@given(st.text(max_size=400))
def test_only_our_own_texts_can_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="not a sign-in text"):
        sign_in.read(text)
