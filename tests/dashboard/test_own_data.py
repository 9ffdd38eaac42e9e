# SPDX-License-Identifier: Apache-2.0
"""A resident and their data at the dashboard, in a real browser on a real chain: grants, is read,
sees it, ends it, opens a day, and takes the statement and an order's evidence home."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from pypdf import PdfReader

from dao.chain import LocalAccount
from dao.eip712 import keccak, sign_digest
from dashboard.repositories.own_data import grants_of
from dashboard.services.dispute import check
from meters.consent import access_data
from meters.grants import access_digest, grant_separator
from scripts._meter_evidence import evidence
from scripts._meter_privacy import verify
from tests.dashboard.acting import fill, pick, settle, sign, sign_in
from tests.dashboard.browsing import choose
from tests.dashboard.near import Browser
from tests.dashboard.village import FIRST, SLOTS, Village, village
from tests.dashboard.wallet.drive import Visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ME, OTHER = 2, 4
READER = LocalAccount.from_key(keccak(b"an energy adviser"))
SCRIPT = "<img src=x onerror=\"document.title='taken'\">"
SESSIONS = 5


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    folder = tmp_path_factory.mktemp("own")
    kept = pytest.MonkeyPatch()
    kept.setenv("GRIDCOMMONS_HOME", str(folder))
    with village(folder) as made:
        made.live(FIRST, SESSIONS)
        yield made
    kept.undo()


def taken(visit: Visit, link: str) -> bytes:
    settle(visit)
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name=link).first.click()
    return Path(download.value.path()).read_bytes()


def test_a_resident_grants_is_read_sees_it_and_ends_it(visit: Visit, street: Village) -> None:
    page = visit.page
    sign_in(visit, ME)
    visit.open("my-data")
    page.get_by_text("Nobody may read your readings").wait_for()
    pick(visit, "Let somebody read")
    fill(visit, "Your name for them", SCRIPT)
    fill(visit, "Address of the reader", READER.address)
    sign(visit, "Sign the grant")
    page.get_by_text("The grant holds from now on").wait_for()
    page.get_by_role("heading", name="<img src=x").wait_for()
    assert page.title() != "taken"
    (held,), _ = grants_of(street.folder, ME)

    # The reader reads, over the network, with no more than the number and its key.
    registry = street.deployment["MeterRegistry"].address
    separator = grant_separator(street.chain.chain_id, registry)
    reader = Browser(visit.url)
    number = "0x" + held.id.hex()

    def read() -> requests.Response:
        asked = reader.post("/my-data/v1/challenges", {"grant": number}).json()
        challenge = bytes.fromhex(asked["challenge"][2:])
        told = access_data(held.id, challenge, street.chain.chain_id, registry)
        assert asked["typed_data"] == told
        signature = sign_digest(READER.key, access_digest(separator, held.id, challenge))
        body = {"grant": number, "challenge": asked["challenge"]}
        span = {"from_slot": FIRST, "to_slot": FIRST + 8}
        return reader.post(
            "/my-data/v1/readings", {**body, **span, "signature": "0x" + signature.hex()}
        )

    answer = read()
    truth = street.readings(FIRST, SLOTS)
    mine = truth.export_wh[truth.meter == ME][:8].tolist()
    assert [row["export_wh"] for row in answer.json()["readings"]] == mine

    # The resident sees it, and ends it.
    visit.open("my-data")
    page.get_by_text("read 8 quarter-hours").first.wait_for()
    sign(visit, "End this grant")
    page.get_by_text("The grant is ended").wait_for()
    assert read().status_code == 403
    visit.open("my-data")
    page.get_by_text("refused: you had ended the grant").wait_for()
    visit.open("notices")
    page.get_by_text("read 8 quarter-hours of yours").first.wait_for()
    page.get_by_text("was refused your readings").first.wait_for()
    page.get_by_role("button", name="as seen").click()
    page.get_by_text("You have seen all of them.").wait_for()


def test_what_a_resident_takes_home_verifies_by_command(
    visit: Visit, street: Village, tmp_path: Path
) -> None:
    page = visit.page
    sign_in(visit, ME)

    # A day of readings.
    visit.open("my-data")
    pick(visit, "Open some days to somebody")
    opened = tmp_path / "readings.json"
    opened.write_bytes(taken(visit, "Readings with proof"))
    assert {row["slot"] // 96 for row in json.loads(opened.read_text())["slots"]} == {FIRST // 96}
    found = CliRunner().invoke(verify, [str(opened), "--rpc", street.node.url, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["complete"]

    # The statement.
    visit.open("statement")
    page.get_by_text("What trade changed").first.wait_for()
    document = PdfReader(io.BytesIO(taken(visit, "Statement as PDF")))
    assert "Energy statement, June 2016" in document.pages[0].extract_text()
    rows = taken(visit, "All numbers as CSV").decode().splitlines()
    (closing,) = [row for row in rows if row.startswith("account,closing,")]
    assert int(closing.split(",")[5]) == street.balance(ME)

    # An order's evidence.
    packed = tmp_path / "evidence.zip"
    packed.write_bytes(taken(visit, "Evidence about this order"))
    with zipfile.ZipFile(packed) as file:
        assert {"README.txt", "order.json", "events.json", "readings.json"} <= set(file.namelist())
        text = file.read("README.txt").decode()
    assert "What can still be done" in text
    assert "possible now" in text
    found = CliRunner().invoke(evidence, [str(packed), "--rpc", street.node.url, "--json"])
    assert found.exit_code == 0, found.output
    assert {one["state"] for one in json.loads(found.output)} == {"passed"}
    assert all(one.state != "failed" for one in check(packed.read_bytes(), None, None))
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b'"stage"', b'"sTage"'))
    found = CliRunner().invoke(evidence, [str(changed)])
    assert found.exit_code == 1
    assert "order.json is not what the manifest names" in found.output


def test_why_a_month_cannot_go_yet_is_said(visit: Visit, street: Village) -> None:
    sign_in(visit, ME)
    visit.open("my-data")
    pick(visit, "Erase a month")
    settle(visit)
    choose(visit.page, "Month to erase", "June 2016")
    visit.page.get_by_text("This stays").wait_for()
    visit.page.get_by_text("This month cannot be erased yet.").wait_for()
    visit.page.get_by_text("The earliest day is 9 Jul 2016").wait_for()
    assert visit.page.get_by_role("button", name="Sign and erase").count() == 0


def test_nobody_gets_anothers_files_by_guessing(visit: Visit, street: Village) -> None:
    """Home 4, signed in, asks for all that is home 2's, and for paths that are none."""
    position = next(one for one in range(9) if _asks(street, one) == ME)
    foreign = [
        f"statements/{ME}/2016-06.pdf",
        f"statements/{ME}/2016-06.csv",
        f"disclosures/{ME}?from=2016-06-06&to=2016-06-06",
        f"disputes/{ME}/{FIRST}-{position}.zip",
    ]
    for path in foreign:
        answer = requests.get(f"{visit.url}/my-data/v1/{path}", timeout=30)
        assert answer.status_code == 401, path
    sign_in(visit, OTHER)
    cookies = {one["name"]: one["value"] for one in visit.page.context.cookies()}

    def ask(path: str, **headers: str) -> requests.Response:
        url = f"{visit.url}/my-data/v1/{path}"
        return requests.get(url, cookies=cookies, headers=headers, timeout=60)

    for path in foreign:
        assert ask(path).status_code == 404, path
    assert ask("statements/999/2016-06.pdf").json() == ask(foreign[0]).json()
    # Another's order under one's own number.
    assert "no such order" in ask(f"disputes/{OTHER}/{FIRST}-{position}.zip").text
    own = f"statements/{OTHER}/2016-06.csv"
    assert ask(own).status_code == 200
    assert ask(own, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    for month in ("2016-13", "..%2F..%2Frun", "2016-06%00", "9999-01", "2016-6"):
        assert ask(f"statements/{OTHER}/{month}.pdf").status_code in (400, 404, 422), month
    for span in (
        "from=2016-06-01&to=2016-12-31",
        "from=x&to=y",
        "",
        "from=2016-06-09&to=2016-06-01",
    ):
        assert ask(f"disclosures/{OTHER}?{span}").status_code == 422, span
    for slug in (f"statement?account={ME}", f"my-data?account={ME}&meter={ME}"):
        visit.open(slug)
        settle(visit)
        assert f"/{ME}/" not in visit.page.content().replace("/my-data/v1", "")
        assert street.people[ME - 1].address not in visit.page.content()


def _asks(street: Village, position: int) -> int:
    from dao.market.session import read_book
    from tests.dashboard.village import ZONE

    book = read_book(street.relay.market, ZONE, FIRST).orders
    return book[position].account if position < len(book) else 0
