# SPDX-License-Identifier: Apache-2.0
"""Colours of the page and its charts, for light and dark, and the page's own style sheet.

Every pair of text and background has a contrast of at least 4.5 : 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """One colour for one meaning, the same on every chart. `sun` is for surfaces, not for text."""

    ink: str
    muted: str
    line: str
    surface: str
    green: str
    amber: str
    blue: str
    red: str
    sun: str
    green_soft: str
    amber_soft: str
    red_soft: str


LIGHT = Palette(
    ink="#1b2420",
    muted="#5a6861",
    line="#dde2da",
    surface="#ffffff",
    green="#17704f",
    amber="#8f5d00",
    blue="#3d62b3",
    red="#b3372b",
    sun="#cc8a12",
    green_soft="#e0f0e8",
    amber_soft="#fcefd3",
    red_soft="#fbe4e1",
)
DARK = Palette(
    ink="#e8eeea",
    muted="#9caaa3",
    line="#2d3733",
    surface="#171d1a",
    green="#4fc592",
    amber="#f0b43c",
    blue="#8da9ec",
    red="#f0877b",
    sun="#f0b43c",
    green_soft="#17352a",
    amber_soft="#3a2d10",
    red_soft="#43201c",
)


def palette(kind: str | None) -> Palette:
    """The palette of Streamlit's theme type; light where it is not known yet."""
    return DARK if kind == "dark" else LIGHT


def style_sheet(colours: Palette) -> str:
    """The page's own styles; Streamlit's theme does the rest."""
    return f"""<style>
.block-container {{ max-width: 1180px; padding: 3.2rem 1.4rem 3rem; }}
.gc-skip {{ position: fixed; top: .6rem; left: -99rem; z-index: 999993; padding: .45rem .8rem;
  border-radius: .5rem; color: {colours.ink} !important; background: {colours.surface};
  border: 1px solid {colours.line}; }}
.gc-skip:focus {{ left: .6rem; }}
#gc-content:focus {{ outline: none; }}
.gc-aside {{ position: fixed; top: 0; right: 3.2rem; height: 3.75rem; z-index: 999991;
  display: flex; align-items: center; gap: .5rem; }}
.gc-language {{ display: flex; gap: .8rem; margin: 0 .3rem !important; white-space: nowrap; }}
.gc-language a {{ color: {colours.ink} !important; padding: .35rem .2rem; }}
.gc-enter {{ display: inline-flex; align-items: center; gap: .4rem; min-height: 2.25rem;
  padding: 0 .75rem; border: 1px solid {colours.line}; border-radius: .6rem; font-size: .9rem;
  background: {colours.surface}; color: {colours.ink} !important; white-space: nowrap;
  text-decoration: none !important; }}
.gc-enter:hover, .gc-enter:focus-visible {{ border-color: {colours.green};
  color: {colours.green} !important; }}
.gc-bell::before, .gc-nav [data-icon]::before, .gc-burger::before, .gc-nav summary::after {{
  font-family: "Material Symbols Rounded"; font-size: 1.2rem; line-height: 1; font-weight: 400;
  width: 1.2rem; overflow: hidden; white-space: nowrap; }}
/* Twice: the second says that it is no word, to those who know how that is said. */
.gc-bell::before {{ content: "notifications"; content: "notifications" / ""; }}
.gc-nav [data-icon] {{ display: flex; }}
.gc-nav [data-icon]::before {{ content: attr(data-icon); content: attr(data-icon) / ""; }}
.gc-nav summary::after {{ content: "expand_more"; content: "expand_more" / ""; }}
.gc-burger::before {{ content: "menu"; content: "menu" / ""; }}
.gc-nav {{ position: fixed; top: 0; left: 1rem; height: 3.75rem; z-index: 999992; display: flex;
  align-items: center; gap: .9rem; font-size: .95rem; }}
.gc-nav a, .gc-nav summary, .gc-burger {{ display: flex; align-items: center; gap: .4rem;
  padding: .3rem .6rem; border-radius: .5rem; color: {colours.ink} !important;
  text-decoration: none !important; white-space: nowrap; cursor: pointer; }}
.gc-nav a:hover, .gc-nav summary:hover, .gc-burger:hover, .gc-nav details[open] > summary {{
  background: {colours.line}; }}
.gc-nav a[aria-current], .gc-nav summary.here {{ font-weight: 650; }}
.gc-nav a[aria-current] {{ background: {colours.green_soft}; }}
.gc-nav summary {{ list-style: none; }}
.gc-nav summary::-webkit-details-marker {{ display: none; }}
.gc-nav .gc-brand {{ padding-left: 0; font-weight: 650; background: none; gap: .55rem; }}
.gc-brand img {{ width: 1.75rem; height: 1.75rem; }}
.gc-burger {{ display: none; min-height: 2.25rem; font: inherit; font-size: .9rem;
  border: 1px solid {colours.line}; background: {colours.surface}; }}
.gc-list {{ display: flex; align-items: center; gap: .15rem; }}
.gc-nav .gc-list details {{ position: relative; margin: 0; color: {colours.ink}; }}
.gc-list details > div {{ position: absolute; top: 100%; left: 0; margin-top: .35rem;
  min-width: 12rem; padding: .35rem; border: 1px solid {colours.line}; border-radius: .6rem;
  background: {colours.surface}; box-shadow: 0 4px 18px rgb(0 0 0 / .14); }}
.gc-list .gc-language {{ display: none; }}
/* What is read anew every few seconds is no work that a visitor could wish to stop. */
[data-testid="stStatusWidget"] {{ display: none; }}
.gc-address {{ overflow-wrap: anywhere; font-size: .85rem; color: {colours.muted}; }}
.gc {{ color: {colours.ink}; }}
.gc i {{ font-style: normal; }}
.gc-pieces {{ display: flex; flex-direction: column; gap: 1rem; }}
.gc-pieces > div {{ min-width: 0; }}
.gc-halves {{ display: grid; grid-template-columns: 3fr 2fr; gap: 0 2.5rem; }}
.gc-halves.right {{ grid-template-columns: 2fr 3fr; }}
.gc-halves > div {{ min-width: 0; }}
/* What is folded away, too, has to stand out from the ground enough to be read. */
[class*="-unfold"] summary {{ opacity: 1; }}
/* What is chosen has to be read, too. */
[role="radio"][aria-checked="true"] p {{ color: {colours.ink}; }}
.gc-muted {{ color: {colours.muted}; }}
.gc-top {{ display: flex; flex-wrap: wrap; justify-content: space-between; align-items: end;
  gap: .4rem 1.5rem; margin-top: .9rem; }}
.gc-top h1 {{ font-size: clamp(1.7rem, 4.4vw, 2.5rem); line-height: 1.12; margin: 0; padding: 0;
  font-weight: 700; letter-spacing: -.015em; }}
.gc-top h1 time {{ font-variant-numeric: tabular-nums; color: {colours.green};
  white-space: nowrap; }}
.gc-facts {{ margin: .3rem 0 0; }}
.gc-pill {{ display: inline-block; border-radius: 99px; padding: .1rem .7rem; font-size: .85rem;
  font-weight: 600; background: {colours.line}; color: {colours.ink}; white-space: nowrap; }}
.gc-pill.good {{ background: {colours.green_soft}; color: {colours.green}; }}
.gc-pill.open {{ background: {colours.amber_soft}; color: {colours.amber}; }}
.gc-pill.bad {{ background: {colours.red_soft}; color: {colours.red}; }}
.gc-pill.good.live::before {{ content: ""; display: inline-block; width: .5rem; height: .5rem;
  margin-right: .4rem; border-radius: 50%; background: currentColor; }}
.gc-steps {{ display: grid; grid-template-columns: repeat(8, 1fr); gap: .35rem; list-style: none;
  margin: 1.1rem 0 .4rem !important; padding: 0 !important; }}
.gc-steps li {{ margin: 0 !important; padding: .38rem 0 0; border-top: 4px solid {colours.line};
  font-size: .86rem; color: {colours.muted}; }}
.gc-steps li.done {{ border-color: {colours.green}; color: {colours.ink}; }}
.gc-steps li.now {{ border-color: {colours.amber}; color: {colours.ink}; font-weight: 650; }}
.gc-sentence {{ margin: 0 0 .4rem; min-height: 1.5em; }}
.gc-bar {{ height: 6px; border-radius: 3px; background: {colours.line}; overflow: hidden; }}
.gc-bar i {{ display: block; height: 100%; background: {colours.green}; }}
.gc-figures {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem;
  margin: .9rem 0 .4rem !important; padding: 0 !important; }}
.gc-figures div {{ background: {colours.surface}; border: 1px solid {colours.line};
  border-radius: .6rem; padding: .8rem 1rem .85rem; }}
.gc-figures dt {{ font-size: .9rem; color: {colours.muted}; font-weight: 400;
  line-height: 1.3; }}
.gc-figures dd {{ margin: 0; }}
.gc-figures dd.value {{ font-size: 1.75rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }}
.gc-figures dd.note {{ font-size: .85rem; color: {colours.muted}; line-height: 1.3; }}
.gc h2 {{ font-size: 1.28rem; font-weight: 650; margin: 0; padding: 0; }}
.gc-lead {{ margin: .15rem 0 0; color: {colours.muted}; }}
.gc-section {{ margin-top: 1.3rem; }}
.gc-empty {{ border: 1px dashed {colours.line}; border-radius: .6rem; padding: 1.1rem 1.2rem;
  color: {colours.muted}; }}
.gc-empty b {{ color: {colours.ink}; display: block; margin-bottom: .15rem; }}
.gc-empty code {{ color: {colours.green}; background: none; padding: 0; }}
.gc-error {{ border: 1px solid {colours.red}; background: {colours.red_soft};
  border-radius: .6rem; padding: 1rem 1.2rem; }}
.gc-error b {{ display: block; margin-bottom: .2rem; }}
.gc-error p {{ margin: .15rem 0 0; }}
.gc-countdown {{ font-variant-numeric: tabular-nums; font-weight: 650; white-space: nowrap; }}
.gc-scroll {{ overflow-x: auto; }}
.gc-table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .93rem; margin: .2rem 0 0; }}
.gc-table th {{ text-align: left; font-weight: 400; color: {colours.muted}; font-size: .85rem; }}
.gc-table th, .gc-table td {{ padding: .36rem .5rem .36rem 0; border: 0;
  border-bottom: 1px solid {colours.line}; }}
.gc-table .num {{ text-align: right; }}
.gc-table .num + :not(.num) {{ padding-left: .6rem; }}
.gc-table .num:last-child {{ padding-right: 0; }}
.gc-table .wait {{ color: {colours.muted}; }}
.gc-vote {{ background: {colours.surface}; border: 1px solid {colours.line}; border-radius: .6rem;
  padding: 1rem 1.1rem; }}
.gc-vote header {{ display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; }}
.gc-vote h3 {{ font-size: 1.08rem; margin: 0; padding: 0; font-weight: 650; }}
.gc-vote p {{ margin: .5rem 0 0; }}
.gc-pairs {{ display: grid; grid-template-columns: 1fr 1fr; gap: .2rem 1.2rem;
  margin: .8rem 0 0 !important; padding: 0 !important; }}
.gc-pairs dt {{ font-size: .85rem; color: {colours.muted}; font-weight: 400; }}
.gc-pairs dd {{ margin: 0; font-size: 1.25rem; font-weight: 650;
  font-variant-numeric: tabular-nums; }}
.gc-pairs dd small {{ font-weight: 400; font-size: .85rem; color: {colours.muted}; }}
.gc-pairs .over {{ color: {colours.red}; }}
.gc-pairs .kept {{ color: {colours.green}; }}
.gc-tally {{ display: flex; height: 14px; border-radius: 7px; overflow: hidden;
  background: {colours.line}; margin-top: .9rem; position: relative; }}
.gc details {{ margin-top: .5rem; color: {colours.muted}; }}
.gc summary {{ cursor: pointer; }}
.gc-tally i {{ display: block; height: 100%; }}
.gc-tally .for {{ background: {colours.green}; }}
.gc-tally .against {{ background: {colours.red}; }}
.gc-tally .abstain {{ background: {colours.muted}; }}
.gc-legend {{ display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .4rem 0 0;
  font-size: .92rem; }}
.gc-legend span::before {{ content: ""; display: inline-block; width: .65rem; height: .65rem;
  border-radius: 2px; margin-right: .4rem; background: currentColor; }}
.gc-legend .for {{ color: {colours.green}; }}
.gc-legend .against {{ color: {colours.red}; }}
.gc-legend .abstain {{ color: {colours.muted}; }}
.gc-legend b {{ color: {colours.ink}; font-weight: 650; }}
.gc-chart {{ margin: .3rem 0 0 !important; font-size: .78rem; color: {colours.muted};
  font-variant-numeric: tabular-nums; line-height: 1.2; }}
.gc-chart figcaption {{ display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin-bottom: .55rem;
  color: {colours.ink}; }}
.gc-chart figcaption .unit {{ color: {colours.muted}; }}
.gc-chart figcaption i {{ display: inline-block; width: .7rem; height: .7rem; border-radius: 2px;
  margin-right: .35rem; }}
.gc-plot {{ display: flex; }}
.gc-beside {{ position: relative; flex: none; width: 2.6rem; }}
.gc-beside span {{ position: absolute; right: .5rem; transform: translateY(-50%); }}
.gc-field {{ position: relative; flex: 1; min-width: 0; }}
.gc-field img {{ position: absolute; inset: 0; width: 100%; height: 100%; }}
.gc-level {{ position: absolute; right: 0; transform: translateY(-115%); }}
.gc-level.below {{ transform: translateY(15%); }}
.gc-tip {{ position: fixed; z-index: 999992; white-space: pre; padding: .45rem .6rem;
  border-radius: .4rem; font-size: .82rem; line-height: 1.45; pointer-events: none;
  color: {colours.ink}; background: {colours.surface}; border: 1px solid {colours.line};
  box-shadow: 0 2px 10px rgb(0 0 0 / .12); font-variant-numeric: tabular-nums; }}
.gc-mark {{ position: fixed; z-index: 999991; width: 0; pointer-events: none;
  border-left: 1px solid {colours.muted}; }}
.gc-mark.spot {{ width: 1.1rem; height: 1.1rem; border: 2px solid {colours.ink};
  border-radius: 50%; transform: translate(-50%, -50%); }}
.gc-tip[hidden], .gc-mark[hidden] {{ display: none; }}
.gc-below {{ position: relative; height: 1.3rem; margin-left: 2.6rem; }}
.gc-below span {{ position: absolute; top: .45rem; transform: translateX(-50%);
  white-space: nowrap; }}
.gc-foot {{ margin-top: 1.6rem; padding-top: .8rem; border-top: 1px solid {colours.line};
  font-size: .86rem; color: {colours.muted}; }}
.gc-foot p {{ margin: 0 0 .3rem; }}
/* Where there is little room the pages are behind one button, and the languages with them. */
@media (max-width: 1100px) {{
  .gc-burger {{ display: flex; }}
  .gc-brand {{ font-size: 0; }}
  .gc-list {{ display: none; position: fixed; top: 3.75rem; left: 0; right: 0; max-height: 80vh;
    overflow-y: auto; flex-direction: column; align-items: stretch; padding: .6rem 1rem 1rem;
    border-bottom: 1px solid {colours.line}; background: {colours.surface};
    box-shadow: 0 8px 18px rgb(0 0 0 / .14); }}
  .gc-nav.open .gc-list {{ display: flex; }}
  .gc-list details > div {{ position: static; margin: 0; padding: 0 0 .3rem .4rem; border: 0;
    box-shadow: none; }}
  .gc-nav summary, .gc-nav details[open] > summary {{ color: {colours.muted} !important;
    font-weight: 650; background: none; }}
  .gc-list .gc-language {{ display: flex; margin-top: .4rem !important; }}
  .gc-aside .gc-language {{ display: none; }}
  /* The bell alone; its words stay for a screen reader. */
  .gc-bell span {{ position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }}
}}
@media (max-width: 760px) {{
  .block-container {{ padding: 3.2rem .9rem 2rem; }}
  .gc-below .minor {{ display: none; }}
  .gc-halves, .gc-halves.right {{ grid-template-columns: 1fr; row-gap: 1rem; }}
  /* A wide table scrolls in its box rather than breaking its words. */
  .gc-scroll td:not(.num) {{ min-width: 7.5rem; }}
  .gc-steps {{ grid-template-columns: repeat(4, 1fr); row-gap: .7rem; }}
  .gc-figures {{ grid-template-columns: 1fr 1fr; gap: .55rem; }}
  .gc-figures div {{ padding: .65rem .8rem; }}
  .gc-figures dd.value {{ font-size: 1.35rem; }}
}}
</style>"""
