# SPDX-License-Identifier: Apache-2.0
"""Members decide in a real browser, on a real chain with relay and keeper: a vote that reaches the
battery over Modbus, a defeat, a veto, an instruction, a delegation, what a stranger writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import playwright.sync_api as playwright
import pytest

from benchmarks.dashboard import sign_in as sign_in_by_cookie
from benchmarks.empty import EmptyServer
from dao.governance import Lane, State, Support, read_proposal
from dao.governance.reasons import publish
from dao.paths import dispatches_path
from dashboard.repositories.devices import BATTERY_METER
from dashboard.repositories.governance import Governance
from dashboard.serve import DashboardServer
from dashboard.services import votes
from dashboard.settings import read_settings
from meters.devices import CommunityBattery, Gateway
from meters.registry import KeyPeriods
from meters.service.dispatches import Dispatches
from meters.signing import reading_separator
from scripts._simulation.plant import BatteryPlant
from tests.dashboard.acting import fill, settle, sign, sign_in
from tests.dashboard.browsing import choose, watch
from tests.dashboard.council import MEMBERS, Council, council
from tests.dashboard.test_walk import signed_in, violations
from tests.dashboard.village import FIRST, ZONE, Village
from tests.dashboard.wallet.drive import Visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ME, OTHER, SAYS_NO = 3, 4, 5
BATTERY = 20
NOON = FIRST + 40
SCRIPT = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Council]:
    folder = tmp_path_factory.mktemp("votes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        patch.setenv(BATTERY_METER, str(BATTERY))
        with council(folder, history_days=1) as made:
            yield made


@pytest.fixture(scope="module")
def street(assembly: Council) -> Village:
    return assembly.street


def page_of(number: int) -> str:
    return f"proposal?id=0x{number:064x}"


def pick(visit: Visit, choice: str) -> None:
    """Choose a ballot."""
    settle(visit)
    visit.page.locator("label").filter(has_text=choice).first.click()
    settle(visit)


def test_a_vote_in_the_browser_decides_and_the_battery_obeys(
    visit: Visit, assembly: Council
) -> None:
    page, street = visit.page, assembly.street
    made = assembly.propose(
        [assembly.battery((NOON, 4, 4_000))], assembly.plan("Charge at noon", "It will be sunny.")
    )
    assembly.vote(made, [1, 2], Support.FOR, "Please do.")
    # Two of the three that are needed: what happens next hangs on the browser.
    sign_in(visit, ME)
    visit.open("votes")
    needs = page.get_by_role("article").filter(has_text="Charge at noon")
    needs.get_by_text("3 of 12 members must vote for it or abstain (so far: 2).").wait_for()
    needs.get_by_role("link", name="Read and vote: Charge at noon").click()
    page.get_by_text("takes in 4.0 kWh at 4.0 kW, Mon 6 Jun, 12:00–13:00.").wait_for()
    pick(visit, "For")
    fill(visit, "Why (everybody can read it, for good)", "The sun is free.")
    visit.click("Continue")
    page.locator(".gc-quote").get_by_text("The sun is free.").wait_for()
    sign(visit, "Sign: vote for")
    page.get_by_text("Signed, and safe at the relay.").wait_for()
    assert assembly.governor.call("proposalVotes", made.id)[1] == 2
    street.carry()
    assert assembly.governor.call("proposalVotes", made.id)[1] == 3
    visit.open(page_of(made.id))
    page.get_by_text("You voted with 1 vote.").wait_for()
    page.get_by_text("The sun is free.").wait_for()

    # Time, and the keeper alone.
    assembly.carried(made)
    assert assembly.state(made) is State.EXECUTED
    visit.open(page_of(made.id))
    page.get_by_text("Executed", exact=True).first.wait_for()

    # The battery's gateway finds the schedule on the chain, and its registers show what it did.
    separator = reading_separator(street.chain.chain_id, street.deployment["MeterRegistry"].address)
    box = Gateway(BATTERY, street.devices[19].key)
    battery = CommunityBattery(20_000, 8_000, soc_wh=5_000)
    with BatteryPlant(
        street.deployment, ZONE, battery, box, separator, (NOON - 1) * 900, street.folder / "plant"
    ) as plant:
        work = plant.run(NOON, 5)
        reports = plant.reports()
    assert work.import_wh.tolist() == [1_000] * 4 + [0]
    assert [one.acknowledged for one in reports] == [4_000] * 4
    keys = KeyPeriods.fixed({BATTERY: box.address})
    file = dispatches_path(street.folder / "inbox.sqlite")
    with closing(Dispatches(file, keys, separator)) as kept:
        for one in reports:
            assert kept.add(one.to_json(), (NOON + 8) * 900)
    visit.open(page_of(made.id))
    page.get_by_text("signed a report for 4 of 4 quarter-hours").wait_for()
    row = page.get_by_role("row").filter(has_text="takes in").inner_text()
    assert row.replace("\u00a0", " ").split("\t")[:3] == ["takes in", "+4.0 kWh", "+4.0 kWh"]


def test_a_defeated_proposal_does_nothing(visit: Visit, assembly: Council) -> None:
    page = visit.page
    made = assembly.propose(
        [assembly.battery((NOON + 20, 4, -3_000))], assembly.plan("Give back at tea time", "")
    )
    assembly.vote(made, [1, 2, 4], Support.FOR)
    assembly.vote(made, [6, 7], Support.AGAINST)
    sign_in(visit, ME)
    visit.open(page_of(made.id))
    pick(visit, "Against")
    visit.click("Continue")
    sign(visit, "Sign: vote against")
    page.get_by_text("Signed, and safe at the relay.").wait_for()
    assembly.street.carry()
    assembly.carried(made)
    assert assembly.state(made) is State.DEFEATED
    assert (NOON + 20, 4, -3_000) not in assembly.in_force(FIRST)
    visit.open(page_of(made.id))
    page.get_by_text("Rejected", exact=True).first.wait_for()
    assert page.get_by_role("button", name="Hand it to the timelock").count() == 0
    visit.open("votes")
    decided = page.get_by_role("listitem").filter(has_text="Give back at tea time")
    decided.get_by_text("3 for, 3 against, 0 abstain").wait_for()


def test_an_objection_stops_an_action_under_the_policy(visit: Visit, assembly: Council) -> None:
    page = visit.page
    made = assembly.propose(
        [assembly.battery((NOON + 30, 4, -2_000))],
        assembly.plan("Give back in the evening", ""),
        Lane.POLICY,
    )
    assembly.vote(made, [SAYS_NO], Support.AGAINST)
    sign_in(visit, ME)
    visit.open("votes")
    page.get_by_text("It takes effect unless 2 of 12 members object (so far: 1).").wait_for()
    page.get_by_role("link", name="Read and object: Give back in the evening").click()
    fill(visit, "Why (everybody can read it, for good)", "My car needs it then.")
    visit.click("Continue")
    sign(visit, "Sign the objection")
    page.get_by_text("Signed, and safe at the relay.").wait_for()
    assembly.street.carry()
    assembly.carried(made)
    assert assembly.state(made) is State.DEFEATED
    assert (NOON + 30, 4, -2_000) not in assembly.in_force(FIRST)
    visit.open(page_of(made.id))
    page.get_by_text("Stopped by objections").first.wait_for()
    page.get_by_text("My car needs it then.").wait_for()


def test_an_instruction_prepares_a_ballot_and_anyone_carries_the_decision_on(
    visit: Visit, assembly: Council
) -> None:
    page, street = visit.page, assembly.street
    made = assembly.propose(
        [assembly.battery((NOON + 50, 2, 4_000))], assembly.plan("A little at night", "")
    )
    assembly.vote(made, [1, 2], Support.FOR)
    sign_in(visit, ME)
    visit.open("votes")
    page.get_by_text("Add an instruction").click()
    fill(visit, "At most, kWh moved", "5")
    choose(page, "Your ballot", "vote for")
    page.get_by_role("button", name="Keep this instruction").click()
    page.get_by_text("Your instruction fits this one and says: vote for.").wait_for()
    # An instruction alone is no vote.
    assert assembly.governor.call("proposalVotes", made.id)[1] == 2
    visit.open("notices")
    page.get_by_text("A ballot is ready for you to sign until").wait_for()
    visit.open("votes")
    sign(visit, "Sign now: vote for")
    page.get_by_text("Your ballot is signed and on its way").wait_for()
    street.carry()
    assert assembly.governor.call("proposalVotes", made.id)[1] == 3

    # No keeper: a member's own transactions.
    street.at(assembly.deadline(made) + 1)
    visit.open(page_of(made.id))
    transact(visit, "Hand it to the timelock")
    street.publish()
    assert assembly.state(made) is State.QUEUED
    street.at(int(assembly.governor.call("proposalEta", made.id)) + 1)
    visit.open(page_of(made.id))
    transact(visit, "Carry it out")
    street.publish()
    assert assembly.state(made) is State.EXECUTED
    assert (NOON + 50, 2, 4_000) in assembly.in_force(FIRST)


def transact(visit: Visit, button: str) -> None:
    """Send a transaction, and wait until the page has heard of it."""
    settle(visit)
    visit.page.get_by_role("button", name=button).first.click()
    dialog = visit.page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Send", exact=True).click()
    dialog.wait_for(state="detached")
    visit.page.get_by_text("Sent to the chain:").wait_for()


def test_a_vote_is_lent_by_one_signature_and_counts_from_the_next_proposal_on(
    visit: Visit, assembly: Council
) -> None:
    page, street = visit.page, assembly.street
    holder = assembly.people[OTHER - 1].address
    members = street.deployment["Membership"]
    sign_in(visit, ME)
    visit.open("delegation")
    choose(page, "To whom", f"Home {OTHER} (metering point {OTHER})")
    sign(visit, f"Sign: Home {OTHER} votes for me")
    page.get_by_text("Signed, and safe at the relay.").wait_for()
    street.carry()
    assert members.call("getVotes", holder) == 2
    visit.open("delegation")
    page.get_by_text(f"You lent your vote to Home {OTHER}").wait_for()
    made = assembly.propose(
        [assembly.battery((NOON + 54, 1, 1_000))], assembly.plan("While it is lent", "")
    )
    visit.open(page_of(made.id))
    page.get_by_text("You had lent your vote when this vote opened.").wait_for()
    visit.open("delegation")
    sign(visit, "Take my vote back")
    page.get_by_text("Signed, and safe at the relay.").wait_for()
    street.carry()
    assert members.call("getVotes", holder) == 1


def test_what_strangers_write_is_shown_and_does_nothing(visit: Visit, assembly: Council) -> None:
    page, street = visit.page, assembly.street
    made = assembly.propose(
        [assembly.battery((NOON + 53, 1, 500))],
        assembly.plan(f"{SCRIPT}\u202eevil", f"{SCRIPT} [a](javascript:alert(1))"),
    )
    assembly.vote(made, [6], Support.AGAINST, f"{SCRIPT} said in a batch")
    publish(made.id, [f"{SCRIPT} said in a batch", "nobody ever signed this"], street.folder)
    for wrong in ("", "0xzz", SCRIPT, "0x" + "f" * 64):
        visit.open(f"proposal?id={wrong}")
        page.get_by_text("There is no such proposal").wait_for()
    visit.open("votes")
    page.get_by_text("onerror").first.wait_for()
    visit.open(page_of(made.id))
    page.get_by_text("said in a batch").wait_for()
    assert page.get_by_text("nobody ever signed this").count() == 0
    assert "taken" not in page.title()
    assert page.locator("main img[src='x']").count() == 0
    page.get_by_text("Sign in to vote.").wait_for()
    assert "\u202e" not in page.content()


def test_the_pages_are_as_easy_to_read_as_an_empty_one(
    chromium: playwright.Browser, pages: DashboardServer, assembly: Council
) -> None:
    watched = watch(chromium, 390, "dark")
    with EmptyServer() as empty:
        watched.open(empty.url)
        known = {rule for rule, _ in violations(watched.page)}
        # Before its server goes, or it complains of that.
        watched.page.goto("about:blank")
    watched.complaints.clear()
    signed_in(watched, sign_in_by_cookie(pages.url, assembly.street.folder))
    voted = Governance(read_settings()).proposals()
    for path in ("votes", "delegation", page_of(voted[0].id), page_of(voted[-1].id)):
        watched.open(f"{pages.url}/{path}")
        assert watched.overflow() <= 0, path
        assert [it for it in violations(watched.page) if it[0] not in known] == [], path
    assert watched.complaints == []
    watched.page.context.close()


def test_the_page_counts_as_the_contracts_do(assembly: Council) -> None:
    for place, support, lane in (
        (56, Support.FOR, Lane.BALANCING),
        (57, Support.AGAINST, Lane.BALANCING),
        (58, Support.VETO, Lane.POLICY),
    ):
        one = assembly.propose([assembly.battery((FIRST + place, 1, 700))], "Count this", lane)
        assembly.vote(one, [1, 2, 6], support)
        if lane is Lane.BALANCING:
            assembly.carried(one)
    found, now = Governance(read_settings()), assembly.street.chain.now()
    members = assembly.street.deployment["Membership"]
    made = found.proposals()
    assert len(made) >= 3
    for one in made:
        tally, needed = found.tally(one), found.quorum(one, now)
        state = votes.state_at(one, tally, needed, found.expiry(one), now)
        assert state.value == assembly.state(read_proposal(assembly.governor, one.id)).name.lower()
        cast = assembly.governor.call("proposalVotes", one.id)
        assert (tally.against, tally.in_favour, tally.abstain) == tuple(cast)
        assert found.members().electorate(one.zone, one.snapshot) == MEMBERS
        for person in assembly.people[: MEMBERS + 2]:
            power = found.members().power(person.address, one.snapshot, one.zone)
            assert power == members.call("getPastVotes", person.address, one.snapshot)
