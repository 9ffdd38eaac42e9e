# SPDX-License-Identifier: Apache-2.0
"""What a demonstration person does on the pages: signs in, fills in, presses, agrees."""

from __future__ import annotations

import re

from tests.dashboard.browsing import choose
from tests.dashboard.wallet.drive import Visit


def sign_in(visit: Visit, home: int) -> None:
    """Become a demonstration person."""
    visit.open("sign-in")
    choose(visit.page, "Demonstration person", re.compile(rf"^Home {home}\b"))
    visit.page.get_by_role("button", name=re.compile(rf"^Continue as Home {home}\b")).click()
    visit.page.get_by_text(f"You are signed in as Home {home}").wait_for()


def settle(visit: Visit) -> None:
    """Until the page stands: its script has ended and nothing is about to be drawn."""
    visit.page.wait_for_timeout(300)
    visit.page.wait_for_function(
        "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
    )


def pick(visit: Visit, label: str) -> None:
    """Choose one of several things that stand beside each other."""
    settle(visit)
    visit.page.get_by_role("radiogroup").get_by_text(label, exact=True).click()
    settle(visit)


def fill(visit: Visit, label: str, value: str) -> None:
    """Type a value into a field, and leave it."""
    settle(visit)
    field = visit.page.get_by_label(label)
    field.fill(value)
    field.press("Tab")
    settle(visit)


def sign(visit: Visit, button: str) -> None:
    """Press a button and agree in the wallet's window."""
    settle(visit)
    visit.page.get_by_role("button", name=button).first.click()
    dialog = visit.page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Sign", exact=True).click()
    dialog.wait_for(state="detached")
