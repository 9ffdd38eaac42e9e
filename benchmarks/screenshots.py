# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.screenshots [HOME] [--only SLUG]`: each page as docs/images shows it.

Without a state folder of a living village it makes one of its own, smaller than the benchmark's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.browsing import PATIENCE, open_browser, visit
from benchmarks.dashboard import Cookie, place, sign_in, village
from dao.anvil import checkout_root
from dao.errors import BadUse, GridCommonsError
from dao.processes import free_port
from dashboard.pages import PAGES
from dashboard.serve import DashboardServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LOOKS = {
    "en": [(390, "light"), (390, "dark"), (1_280, "light"), (1_280, "dark")],
    # The same pages with longer words: one picture for each width, and for each theme.
    "de": [(390, "dark"), (1_280, "light")],
}
"""Widths and themes by language."""
_LOCALES = {"en": "en-GB", "de": "de-DE"}
# A picture shows what one sees first and some of what comes below.
_TALLEST = 2_400
# Enough that two colours of a legend stay two.
_COLOURS = (240, 160, 112, 72)
_SETTLE_MS = 400
# What a page needs a while for, the first time that it is asked.
_MADE = {"grid": ".gc-gridbox"}
# What a page shows once something is chosen: the first choice of its second row.
_CHOSEN = {"trade": '[data-testid="stButtonGroup"] >> nth=1 >> button >> nth=0'}
MOST_BYTES = 120_000


def main(arguments: list[str] | None = None) -> int:
    """Draw the pictures; 0, 1 on a failed check, 2 on bad use."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots")
    parser.add_argument("home", nargs="?", type=Path, help="state folder of a living village")
    parser.add_argument("--only", action="append", metavar="SLUG", help="some pages only")
    parser.add_argument("--language", action="append", choices=list(LOOKS), help="one alone")
    parser.add_argument("--into", type=Path, default=checkout_root() / "docs" / "images")
    chosen = parser.parse_args(arguments)
    try:
        slugs = chosen.only or [one.slug for one in PAGES]
        draw(chosen.home, slugs, chosen.language or list(LOOKS), chosen.into)
    except GridCommonsError as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def draw(home: Path | None, slugs: list[str], languages: list[str], into: Path) -> None:
    """One picture for each page and each look of a language, in small palettes."""
    if unknown := set(slugs) - {one.slug for one in PAGES}:
        raise BadUse(f"no such page: {', '.join(sorted(unknown))}")
    into.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshots-")))
            stack.enter_context(village(home, history_days=56))
        given = {"GRIDCOMMONS_HOME": str(home)}
        server = stack.enter_context(DashboardServer(free_port(), given))
        browser = stack.enter_context(open_browser())
        cookie = sign_in(server.url, home)
        for language in languages:
            for width, theme in LOOKS[language]:
                _pictures(browser, server.url, home, cookie, slugs, into, width, theme, language)


def _pictures(
    browser: Browser,
    url: str,
    home: Path,
    cookie: Cookie,
    slugs: list[str],
    into: Path,
    width: int,
    theme: str,
    language: str,
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        locale=_LOCALES[language],
    )
    for slug in slugs:
        # Who is signed in would not see the way in.
        context.clear_cookies()
        if slug != "sign-in":
            context.add_cookies([{"name": cookie.name, "value": cookie.value, "url": cookie.url}])
        one = visit(context)
        one.open(f"{url}/{place(slug, home)}")
        if slug in _CHOSEN:
            one.act(one.page.locator(_CHOSEN[slug]))
        if slug in _MADE:
            one.page.locator(_MADE[slug]).wait_for(timeout=PATIENCE)
        # Twice, as a page may grow once there is room.
        for _ in range(2):
            one.page.wait_for_timeout(_SETTLE_MS)
            tall = one.page.evaluate(
                "document.querySelector('.stMainBlockContainer').getBoundingClientRect().height"
            )
            one.page.set_viewport_size({"width": width, "height": min(int(tall) + 20, _TALLEST)})
        one.page.wait_for_timeout(_SETTLE_MS)
        ending = "" if language == "en" else f"-{language}"
        path = into / f"{slug}-{width}-{theme}{ending}.png"
        size = _small(one.page.screenshot(), path)
        print(f"{path.name}: {size:,} bytes", flush=True)
        one.page.close()
    context.close()


def _small(picture: bytes, path: Path) -> int:
    """Write a picture in few colours; fewer where it would still be large. Its bytes."""
    from PIL import Image

    whole = Image.open(BytesIO(picture)).convert("RGB")
    for colours in _COLOURS:
        kept = BytesIO()
        fewer = whole.quantize(colours, kmeans=2, dither=Image.Dither.NONE)
        fewer.save(kept, "PNG", optimize=True)
        if kept.tell() <= MOST_BYTES:
            break
    path.write_bytes(kept.getvalue())
    return kept.tell()


if __name__ == "__main__":
    sys.exit(main())
