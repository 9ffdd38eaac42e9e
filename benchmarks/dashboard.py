# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser, beside an empty Streamlit page that is served the same way.

Behind it stands what the demo leaves after thirteen weeks: over 1,000,000 readings in the lake, a
chain and its index, a relay, and a village that lives on, slowly. The visitor is one of its people.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.browsing import Visit, open_browser, visit
from benchmarks.empty import EmptyServer
from benchmarks.results import Result
from dao.anvil import checkout_root
from dao.errors import CheckFailed
from dao.index import EventReader
from dao.paths import cache_dir
from dao.processes import end_child, free_port, start_child
from dao.runstate import read_run_state
from dashboard.pages import PAGES
from dashboard.serve import DashboardServer
from scripts.demo import DAYS_OVER

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator


class Cookie(NamedTuple):
    """A cookie, and the address that it belongs to."""

    name: str
    value: str
    url: str


READINGS = 1_000_000
HISTORY_DAYS = 91
ROUNDS = 7
PEOPLE = 10
WIDTH, HEIGHT = 1_280, 900
_SETUP_S = 1_800.0
_CONTROL = '[data-testid="stButtonGroup"] button, [class*="-unfold"] summary'
_SLIDER = '[data-testid="stSlider"] [role="slider"], [data-testid="stSlider"] input'


def run() -> Result:
    """The figures, on a village of their own."""
    # In the state folder, not in /tmp, which may be memory: a lake's disk is a disk.
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="dashboard-", dir=cache_dir()) as folder,
        village(Path(folder)),
    ):
        return measure(Path(folder))


@contextmanager
def village(home: Path, history_days: int = HISTORY_DAYS) -> Iterator[None]:
    """The demo in `home`, through its days and living on for as long as the `with` lasts."""
    command = [sys.executable, "-m", "scripts", "demo", "--days", "1", "--pace", "1"]
    command += ["--history-days", str(history_days), "--port", str(free_port())]
    search = [str(checkout_root()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "GRIDCOMMONS_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
    }
    with (home / "demo.log").open("wb") as log:
        process = start_child(command, output=log, environment=environment)
        try:
            _wait_for_the_days(process, home)
            yield
        finally:
            end_child(process)


def _wait_for_the_days(process: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + _SETUP_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            words = (home / "demo.log").read_text(errors="replace").strip().splitlines()
            raise CheckFailed(f"the demo ended: {words[-1] if words else 'no output'}")
        # A village that lives on is never finished; its demo says when the days are over.
        if DAYS_OVER.encode() in (home / "demo.log").read_bytes():
            return
        time.sleep(1)
    raise CheckFailed(f"the demo's days were not over after {_SETUP_S:.0f} s")


def measure(home: Path) -> Result:
    """The figures on a state folder whose village is alive."""
    readings = _readings(home)
    if readings < READINGS:
        raise CheckFailed(f"{readings:,} readings lie in the lake, not {READINGS:,}")
    with (
        EmptyServer() as empty,
        _served(home) as server,
        open_browser() as browser,
    ):
        cookie = sign_in(server.url, home)
        # A server that runs has seen each of its pages.
        addresses = _addresses(server.url, home)
        _seen(browser, addresses, cookie)
        first, first_empty = _first_views(browser, server.url, empty.url)
        pages, received, page_empty = _pages(browser, addresses, empty.url, cookie)
        acts = _interactions(browser, addresses, cookie)
        problems = _ten_people(browser, addresses, cookie)
    slowest = max(pages, key=lambda slug: pages[slug])
    largest = max(received, key=lambda slug: received[slug])
    act = max(acts, key=lambda name: acts[name])
    for problem in problems[:10]:
        print(f"ten people: {problem}", file=sys.stderr)
    return Result(
        figures={
            "dashboard.first_view_s": first,
            "dashboard.page_1m_s": pages[slowest],
            "dashboard.interaction_s": acts[act],
            "dashboard.response_bytes": received[largest],
            "dashboard.ten_people_errors": len(problems),
            "dashboard.readings": readings,
        },
        peers={
            "dashboard.empty_first_view_s": first_empty,
            "dashboard.empty_page_s": page_empty,
        },
        ratios={
            "dashboard.first_view_vs_empty": first / first_empty,
            "dashboard.page_1m_vs_empty": pages[slowest] / page_empty,
        },
        notes={
            "dashboard.first_view_s": f"the live page, nothing cached; median of {ROUNDS}",
            "dashboard.page_1m_s": f"/{slowest}, the slowest of {len(pages)}, signed in",
            "dashboard.interaction_s": f"{act}, the slowest of {len(acts)}",
            "dashboard.response_bytes": f"all that /{largest} received of ours",
            "dashboard.ten_people_errors": f"{PEOPLE} people on every page at once",
            "dashboard.readings": "in the lake behind the pages",
        },
    )


@contextmanager
def _served(home: Path) -> Iterator[DashboardServer]:
    """The dashboard over `home`."""
    with DashboardServer(free_port(), {"GRIDCOMMONS_HOME": str(home)}) as server:
        yield server


def _readings(home: Path) -> int:
    """Rows in the lake, as DuckDB counts them."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        pattern = str(home / "lake" / "zone=*" / "day=*" / "*.parquet")
        row = connection.execute(
            "SELECT sum(num_rows) FROM parquet_file_metadata($files)", {"files": pattern}
        ).fetchone()
    return int(row[0]) if row and row[0] else 0


def sign_in(url: str, home: Path) -> Cookie:
    """Sign in as the first home's person, as a wallet would; returns the session's cookie."""
    import requests
    from eth_account import Account
    from eth_account.messages import encode_defunct

    from dao.demo_people import owner_account
    from dashboard.hosts import cookie_name
    from dashboard.routes.session import SESSION_COOKIE

    name = cookie_name(SESSION_COOKIE, urlsplit(url).netloc)
    state = read_run_state(home / "run.json")
    if state is None:
        raise CheckFailed(f"no run in {home}")
    account = owner_account(state.seed, 1)
    with requests.Session() as session:
        session.headers["Origin"] = url
        asked = session.post(
            f"{url}/session/challenge", json={"account": account.address}, timeout=30
        )
        if not asked.ok:
            raise CheckFailed(f"signing in failed: {asked.text[:200]}")
        message = asked.json()["message"]
        signed = Account.sign_message(encode_defunct(text=message), account.key).signature
        answer = session.post(
            f"{url}/session/sign-in",
            json={"message": message, "signature": "0x" + bytes(signed).hex()},
            timeout=30,
        )
        if name not in answer.cookies:
            raise CheckFailed(f"signing in failed: {answer.text[:200]}")
        return Cookie(name, str(answer.cookies[name]), url)


@contextmanager
def _visitor(browser: Browser, cookie: Cookie | None = None) -> Iterator[Visit]:
    """A visitor with a browser of their own, signed in where a cookie is given."""
    context: BrowserContext = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        if cookie:
            context.add_cookies([{"name": cookie.name, "value": cookie.value, "url": cookie.url}])
        yield visit(context)
    finally:
        context.close()


def place(slug: str, home: Path) -> str:
    """Where a page is looked at: that of proposals at the newest one."""
    if slug != "proposal":
        return slug
    made = EventReader(home / "index.sqlite").events("ProposalCreated", limit=1, newest_first=True)
    if not made:
        raise CheckFailed("nothing was proposed in this village")
    return f"{slug}?id=0x{int(made[0]['args']['proposalId']):064x}"


def _addresses(url: str, home: Path) -> dict[str, str]:
    return {one.slug: f"{url}/{place(one.slug, home)}" for one in PAGES}


def _seen(browser: Browser, addresses: Mapping[str, str], cookie: Cookie) -> None:
    with _visitor(browser, cookie) as one:
        for address in addresses.values():
            one.open(address)


def _first_views(browser: Browser, ours: str, theirs: str) -> tuple[float, float]:
    """Median seconds of a first visit, ours and the empty page's, in turn."""
    found: dict[str, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for url, times in found.items():
            with _visitor(browser) as one:
                times.append(one.open(url))
    return statistics.median(found[ours]), statistics.median(found[theirs])


def _pages(
    browser: Browser, ours: Mapping[str, str], theirs: str, cookie: Cookie
) -> tuple[dict[str, float], dict[str, int], float]:
    """Median seconds of each page and of the empty one, for somebody who has been here before;
    and the bytes that each page received."""
    times: dict[str, list[float]] = {slug: [] for slug in ours}
    received: dict[str, int] = {}
    empty: list[float] = []
    with _visitor(browser, cookie) as one, _visitor(browser) as other:
        one.open(next(iter(ours.values())))
        other.open(theirs)
        for _ in range(ROUNDS):
            empty.append(other.open(theirs))
            for slug, spent in times.items():
                spent.append(one.open(ours[slug]))
                received[slug] = max(received.get(slug, 0), one.received)
        if one.problems:
            raise CheckFailed(f"a page complains: {one.problems[0][:200]}")
    return _medians(times), received, statistics.median(empty)


def _interactions(
    browser: Browser, addresses: Mapping[str, str], cookie: Cookie
) -> dict[str, float]:
    """Median seconds of each choice that a page offers beside each other, of what it has folded
    away, of what either brings up, and of each slider."""
    found: dict[str, list[float]] = {}
    with _visitor(browser, cookie) as one:
        for slug, address in addresses.items():
            one.open(address)
            for _ in range(3):
                for control in _each(one, _CONTROL):
                    if control.get_attribute("aria-checked") != "true":
                        name = f"/{slug}: {control.inner_text().strip()}"
                        found.setdefault(name, []).append(one.act(control))
                for control in _each(one, _SLIDER):
                    name = f"/{slug}: {control.get_attribute('aria-label') or 'slider'}"
                    found.setdefault(name, []).append(one.press(control, "ArrowRight"))
    if not found:
        raise CheckFailed("no page offers a choice to measure")
    return _medians(found)


def _each(one: Visit, kind: str) -> Iterator[Locator]:
    """The controls of a kind, as many as there are by the time that each one's turn comes."""
    place = 0
    while place < one.page.locator(kind).count():
        yield one.page.locator(kind).nth(place)
        place += 1


def _medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(those) for name, those in times.items() if those}


def _ten_people(browser: Browser, addresses: Mapping[str, str], cookie: Cookie) -> list[str]:
    """What went wrong while ten people, every other one signed in, opened each page at once."""
    problems: list[str] = []
    with ExitStack() as stack:
        people = [
            stack.enter_context(_visitor(browser, cookie if person % 2 else None))
            for person in range(PEOPLE)
        ]
        for slug, address in addresses.items():
            for one in people:
                one.start(address)
            for one in people:
                try:
                    one.stands()
                except Exception as error:
                    problems.append(f"/{slug}: {type(error).__name__}")
                    continue
                problems += [f"/{slug}: {_said(part)}" for part in _faults(one)]
        return problems + [problem for one in people for problem in one.problems]


def _faults(one: Visit) -> list[Any]:
    """Places where a page says that it failed."""
    return one.page.locator('[data-testid="stException"], .gc-error').all()


def _said(part: Any) -> str:
    return str(part.inner_text())[:120]
