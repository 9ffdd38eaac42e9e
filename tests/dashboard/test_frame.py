# SPDX-License-Identifier: Apache-2.0
"""The frame without a browser: settings, cache, languages, names, and how routes say no."""

from __future__ import annotations

import ast
import json
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dao.errors import BadUse, CheckFailed
from dao.runstate import write_run_state
from dashboard import context, errors, hosts, i18n, pages, settings, theme
from dashboard.i18n import Formats, Locale
from dashboard.repositories import attention
from dashboard.repositories.cache import cached, version
from tests.dashboard.sample import FIRST_SLOT, Index, run_state

DASHBOARD = Path(pages.__file__).parent
CONTRACTS = {"EnergyMarket": "0x" + "11" * 20}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))
    for name in (settings.RPC, settings.RELAY, settings.ZONE, hosts.HOSTS):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def deploy(home: Path, chain_id: int = settings.LOCAL_CHAIN) -> None:
    document = {"chain_id": chain_id, "contracts": CONTRACTS}
    (home / "deployment.json").write_text(json.dumps(document))


class TestSettings:
    def test_an_empty_folder_knows_nothing(self, home: Path) -> None:
        assert settings.read_settings() == settings.Settings(home)

    def test_a_run_says_where_its_node_is(self, home: Path) -> None:
        write_run_state(run_state())
        deploy(home)
        found = settings.read_settings()
        assert (found.rpc, found.local) == ("http://127.0.0.1:8545", True)
        assert found.deployment is not None
        assert set(found.deployment) == {"EnergyMarket"}

    def test_a_run_that_begins_later_is_found(self) -> None:
        assert settings.read_settings().rpc is None
        write_run_state(run_state())
        assert settings.read_settings().rpc == "http://127.0.0.1:8545"

    def test_the_environment_goes_first(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_run_state(run_state())
        deploy(home)
        monkeypatch.setenv(settings.RPC, "https://node.example/")
        monkeypatch.setenv(settings.RELAY, "https://relay.example")
        found = settings.read_settings()
        assert (found.rpc, found.relay) == ("https://node.example", "https://relay.example")
        assert not found.local

    def test_a_public_chain_is_not_local(self, home: Path) -> None:
        write_run_state(run_state())
        deploy(home, chain_id=1)
        assert not settings.read_settings().local

    @pytest.mark.parametrize(
        "odd", ["node", "ftp://node", "http://", "javascript:1", "http://[", "http://a:x"]
    )
    def test_an_odd_address_is_bad_use(self, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(settings.RELAY, odd)
        with pytest.raises(BadUse, match="expected http"):
            settings.read_settings()

    @pytest.mark.parametrize("odd", ["0", "-1", "1024", "one", "9" * 30, "²"])
    def test_an_odd_zone_is_bad_use(self, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(settings.ZONE, odd)
        with pytest.raises(BadUse, match="1 to 1023"):
            settings.configured_zone()

    def test_a_damaged_run_is_told_and_heals(self, home: Path) -> None:
        (home / "run.json").write_text("{")
        with pytest.raises(CheckFailed):
            settings.read_settings()
        write_run_state(run_state())
        assert settings.read_settings().rpc


class TestState:
    def test_time_is_the_runs(self) -> None:
        write_run_state(run_state())
        assert context.read_state().now == (FIRST_SLOT + 63) * 900

    def test_without_a_run_it_is_the_newest_blocks(self, home: Path) -> None:
        Index(home / "index.sqlite").add("Anything", 1_465_000_000, {})
        assert context.read_state().now == 1_465_000_000


class TestCache:
    def test_an_answer_is_asked_for_once(self) -> None:
        asked = []

        @cached(ttl=60, max_entries=8)
        def double(number: int) -> int:
            asked.append(number)
            return number * 2

        assert [double(1), double(1), double(2)] == [2, 2, 4]
        assert asked == [1, 2]

    def test_what_was_told_is_told_again_without_asking(self) -> None:
        asked: list[int] = []

        @cached(ttl=0, max_entries=4)
        def double(number: int) -> int:
            """Twice the number."""
            asked.append(number)
            return 2 * number

        assert double.told(3) is None
        assert double(3) == 6
        assert [double.told(3), double.told(4)] == [6, None]
        assert asked == [3]
        assert double.__doc__ == "Twice the number."

    def test_an_old_answer_is_asked_for_again(self) -> None:
        asked = []

        @cached(ttl=0, max_entries=8)
        def note() -> None:
            asked.append(1)

        note()
        note()
        assert len(asked) == 2

    def test_the_one_unused_for_longest_goes(self) -> None:
        asked = []

        @cached(ttl=60, max_entries=2)
        def note(number: int) -> None:
            asked.append(number)

        for number in (1, 2, 1, 3, 1, 2):
            note(number)
        assert asked == [1, 2, 3, 2]

    def test_an_error_is_not_kept(self) -> None:
        asked = []

        @cached(ttl=60, max_entries=2)
        def fail_once() -> str:
            asked.append(1)
            if len(asked) == 1:
                raise CheckFailed("away")
            return "there"

        with pytest.raises(CheckFailed):
            fail_once()
        assert fail_once() == "there"

    def test_many_at_once_ask_once(self) -> None:
        asked = []
        begin = threading.Barrier(8)
        going = threading.Event()

        @cached(ttl=60, max_entries=2)
        def slow() -> int:
            asked.append(1)
            going.wait(5)
            return 7

        found: list[int] = []

        def visit() -> None:
            begin.wait(5)
            found.append(slow())

        visitors = [threading.Thread(target=visit) for _ in range(8)]
        for one in visitors:
            one.start()
        going.set()
        for one in visitors:
            one.join(10)
        assert found == [7] * 8
        assert len(asked) == 1

    def test_a_version_changes_with_the_file_and_with_its_wal(self, tmp_path: Path) -> None:
        path = tmp_path / "index.sqlite"
        seen = [version(path)]
        path.write_text("a")
        seen.append(version(path))
        (tmp_path / "index.sqlite-wal").write_text("b")
        seen.append(version(path))
        assert len(set(seen)) == 3


class TestLanguage:
    def test_english_is_spoken_where_nothing_else_is_there(self) -> None:
        assert i18n.choose("tlh", None, "", "../../etc") == Locale("en")

    def test_a_catalogue_is_used_inside_speaking(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from babel.messages.catalog import Catalog
        from babel.messages.mofile import write_mo

        catalogue = Catalog(locale="de", domain=i18n.DOMAIN)
        catalogue.add("Sign in", "Anmelden")
        catalogue.add(("{number} home", "{number} homes"), ("{number} Haus", "{number} Häuser"))
        folder = tmp_path / "de" / "LC_MESSAGES"
        folder.mkdir(parents=True)
        with (folder / f"{i18n.DOMAIN}.mo").open("wb") as out:
            write_mo(out, catalogue)
        monkeypatch.setattr(i18n, "LOCALES", tmp_path)
        i18n._catalogue.cache_clear()
        assert i18n.choose(None, "de-AT") == Locale("de")
        with i18n.speaking(Locale("de")):
            assert i18n._("Sign in") == "Anmelden"
            assert i18n.ngettext("{number} home", "{number} homes", 2) == "{number} Häuser"
            assert i18n._("Not in the catalogue") == "Not in the catalogue"
        assert i18n._("Sign in") == "Sign in"
        i18n._catalogue.cache_clear()

    def test_every_text_can_be_extracted(self) -> None:
        """Each call of gettext has a literal where the text stands."""
        places = {"_": (0,), "N_": (0,), "ngettext": (0, 1)}
        wrong, counted = [], 0
        for path in DASHBOARD.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                for place in places.get(node.func.id, ()):
                    one = node.args[place] if place < len(node.args) else None
                    counted += 1
                    literal = isinstance(one, ast.Constant) and isinstance(one.value, str)
                    # A list marked with N_ is read by its fields.
                    if not literal and not isinstance(
                        one, ast.Attribute | ast.Name | ast.Subscript
                    ):
                        wrong.append(f"{path.name}:{node.lineno}")
        assert wrong == []
        assert counted > 20

    @pytest.mark.parametrize(
        ("language", "said"),
        [
            ("en", ["1,234 kWh", "0.5 kWh", "23.4 ct/kWh", "€1,234.50", "-€0.10", "12.5 %"]),
            ("de", ["1.234 kWh", "0,5 kWh", "23,4 ct/kWh", "1.234,50 €", "-0,10 €", "12,5 %"]),
        ],
    )
    def test_numbers_follow_the_language(self, language: str, said: list[str]) -> None:
        fmt = Formats(Locale(language))
        found = [
            fmt.kwh(1_234_000),
            fmt.kwh(500),
            fmt.ct(234),
            fmt.euro(1_234_500_000),
            fmt.euro(-100_000),
            fmt.percent(0.125, 1),
        ]
        assert [one.replace("\u00a0", " ") for one in found] == said

    def test_money_below_half_a_cent_has_no_sign(self) -> None:
        assert Formats().euro(-4_000) == "€0.00"

    def test_times_are_the_zones(self) -> None:
        seconds = (FIRST_SLOT + 63) * 900
        assert Formats().time(seconds) == "17:45"
        assert Formats().date(seconds) == "7 Jun 2016"
        assert Formats().moment(seconds) == "Tue 7 Jun, 17:45"
        assert Formats(Locale("de")).moment(seconds).startswith("Di")

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(-5, "0 s"), (50, "50 s"), (6_300, "1 h 45 min"), (90_000, "1 d 1 h")],
    )
    def test_spans_are_said_in_two_parts_at_most(self, seconds: int, said: str) -> None:
        assert Formats().duration(seconds).replace("\u00a0", " ") == said


class TestPages:
    def test_each_has_a_section_a_module_and_a_slug_of_its_own(self) -> None:
        slugs = [one.slug for one in pages.PAGES]
        assert len(set(slugs)) == len(slugs)
        for one in pages.PAGES:
            assert one.section in pages.SECTIONS
            module = one.module or one.slug.replace("-", "_")
            assert (DASHBOARD / "views" / f"{module}.py").exists()
        assert pages.DEFAULT in slugs


class TestNames:
    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8501", "127.0.0.1:8501", "[::1]:8501", "LOCALHOST:1"]
    )
    def test_this_machine_is_ours(self, host: str) -> None:
        assert hosts.is_ours(host)

    @pytest.mark.parametrize(
        "host", ["", "evil.example", "evil.example:8501", "localhost.evil", "localhost:x", ":8501"]
    )
    def test_another_name_is_not(self, host: str) -> None:
        assert not hosts.is_ours(host)

    def test_an_operator_may_give_further_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(hosts.HOSTS, "grid.example.org, other.example")
        assert hosts.is_ours("grid.example.org")
        assert not hosts.is_ours("evil.example")


def test_an_error_names_no_key() -> None:
    said: Any = errors.plain(
        CheckFailed("node unreachable at https://u:secret@node.example/v3/key")
    )
    assert said == "node unreachable at https://node.example"


class TestColours:
    @pytest.mark.parametrize(
        ("colours", "page"), [(theme.LIGHT, "#fbfbf8"), (theme.DARK, "#111614")]
    )
    def test_every_text_stands_out_from_what_it_stands_on(
        self, colours: theme.Palette, page: str
    ) -> None:
        for name in ("ink", "muted", "green", "amber", "blue", "red"):
            grounds = [page, colours.surface]
            if name in ("green", "amber", "red"):
                grounds.append(getattr(colours, f"{name}_soft"))
            for ground in grounds:
                assert contrast(getattr(colours, name), ground) >= 4.5, (name, ground)

    def test_the_pages_grounds_are_those_of_the_settings(self) -> None:
        said = tomllib.loads((DASHBOARD / ".streamlit" / "config.toml").read_text())["theme"]
        assert said["light"]["backgroundColor"] == "#fbfbf8"
        assert said["dark"]["backgroundColor"] == "#111614"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG counts it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_mandate_on_chain_ends_with_its_last_day(home: Path) -> None:
    """As the index keeps it: the terms in the contract's order, without names."""
    index = Index(home / "index.sqlite")
    terms = ["0x" + "11" * 20, 1, 138, 4_095, 16_960]
    index.add("MandateGranted", 1, {"account": 7, "number": 2, "terms": terms}, "EnergyMarket")
    index.add("MandateGranted", 2, {"account": 7, "number": 3, "terms": terms}, "EnergyMarket")
    index.add("MandateEnded", 3, {"account": 7, "number": 3}, "EnergyMarket")
    found = attention._mandates(settings.read_settings(), 7)
    assert found == [attention.Ending(2, 16_961 * 86_400)]
