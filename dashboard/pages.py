# SPDX-License-Identifier: Apache-2.0
"""The list of pages: where each stands, and whom it needs. What a page shows is in `views/`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from dashboard.i18n import N_

if TYPE_CHECKING:
    from dashboard.context import Context

SECTIONS = MappingProxyType(
    {
        "public": N_("Neighbourhood"),
        "resident": N_("My energy"),
        "member": N_("Decisions"),
        "analyst": N_("Figures"),
        "operator": N_("Operation"),
    }
)
"""Sections of the navigation, in order, with their headings."""


@dataclass(frozen=True)
class Page:
    """One page. slug: its path, English and never changed. title: English, goes through `_`.

    `module` in `dashboard/views/` has `draw(context)`; by default it is named like the slug.
    A page that `needs_person` shows the sign-in to whoever is not signed in. One that is not
    `listed` is reached by a link only. `icon`: its name among the Material Symbols. `scripts`: of
    Streamlit's widgets that it shows first.
    """

    slug: str
    title: str
    section: str
    needs_person: bool = False
    icon: str | None = None
    module: str = ""
    listed: bool = True
    scripts: tuple[str, ...] = ()

    def draw(self, context: Context) -> None:
        """Draw the page; its module is imported when it is first wanted."""
        name = self.module or self.slug.replace("-", "_")
        importlib.import_module(f"dashboard.views.{name}").draw(context)


PUBLIC = (
    Page("zone", N_("Live"), "public", module="live", icon="bolt"),
    Page("sign-in", N_("Sign in"), "public", listed=False),
)
RESIDENT: tuple[Page, ...] = (
    Page(
        "home",
        N_("Home"),
        "resident",
        needs_person=True,
        icon="home",
        scripts=("ButtonGroup",),
    ),
    Page(
        "trade",
        N_("Trade"),
        "resident",
        needs_person=True,
        icon="swap_vert",
        scripts=("ButtonGroup", "NumberInput"),
    ),
    Page(
        "standing-offers",
        N_("Standing offers"),
        "resident",
        needs_person=True,
        icon="smart_toy",
        module="standing",
        scripts=("Radio",),
    ),
    Page("orders", N_("Orders"), "resident", needs_person=True, icon="receipt_long"),
    Page(
        "money",
        N_("Money"),
        "resident",
        needs_person=True,
        icon="euro",
        scripts=("NumberInput", "DownloadButton"),
    ),
    Page(
        "statement",
        N_("Statement"),
        "resident",
        needs_person=True,
        icon="description",
        scripts=("Selectbox",),
    ),
    Page(
        "my-data",
        N_("My data"),
        "resident",
        needs_person=True,
        icon="shield_person",
        scripts=("Selectbox", "Radio"),
    ),
    Page("notices", N_("Notices"), "resident", needs_person=True, icon="notifications"),
)
MEMBER: tuple[Page, ...] = (
    Page(
        "votes",
        N_("Votes"),
        "member",
        icon="how_to_vote",
    ),
    Page("proposal", N_("Proposal"), "member", listed=False),
    Page(
        "delegation",
        N_("Delegation"),
        "member",
        needs_person=True,
        icon="handshake",
        scripts=("Selectbox",),
    ),
    Page("rules", N_("Rules"), "member", icon="tune"),
    Page("roles", N_("Roles"), "member", icon="badge"),
    Page("treasury", N_("Treasury"), "member", icon="account_balance"),
)
ANALYST: tuple[Page, ...] = (
    Page(
        "analysis",
        N_("Figures"),
        "analyst",
        icon="query_stats",
        scripts=("ButtonGroup",),
    ),
    Page(
        "forecast-record",
        N_("Forecasts"),
        "analyst",
        icon="insights",
        scripts=("ButtonGroup",),
    ),
    Page(
        "grid",
        N_("Grid"),
        "analyst",
        icon="account_tree",
        scripts=("ButtonGroup", "Slider"),
    ),
)
OPERATOR: tuple[Page, ...] = (Page("operations", N_("Status"), "operator", icon="monitor_heart"),)

PAGES = (*PUBLIC, *RESIDENT, *MEMBER, *ANALYST, *OPERATOR)
DEFAULT = "zone"


def page(slug: str) -> Page:
    """The page of that slug. KeyError where there is none."""
    return {one.slug: one for one in PAGES}[slug]
