# SPDX-License-Identifier: Apache-2.0
"""Every mistake in the settings is one clear line that says where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from dao.errors import BadUse
from meters.gateway.settings import read

PLAIN = """
[gateway]
meter = 17
zone = 1
[chain]
id = 31337
registry = "0x1111111111111111111111111111111111111111"
ledger = "0x2222222222222222222222222222222222222222"
[collector]
url = "http://127.0.0.1:8560"
address = "0x3333333333333333333333333333333333333333"
[[source]]
kind = "p1"
address = "tcp://192.0.2.1:2001"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    settings = read(written(tmp_path, PLAIN))
    assert settings.id == "meter-17"
    assert settings.folder == tmp_path / "gateway-17"
    [source] = settings.sources
    assert (source.kind, source.address.host, source.address.port(0)) == ("p1", "192.0.2.1", 2001)
    assert source.directions == ("import", "export")


MISTAKES = {
    "no toml": ("[gateway", "is not TOML"),
    "no gateway": (PLAIN.replace("[gateway]", "[gatewa]"), "[gateway] is missing"),
    "unknown table": (PLAIN + "[markt]\n", "does not know markt; did you mean market?"),
    "typing error": (PLAIN.replace("zone = 1", "zone = 1\nfoldr = 'x'"), "did you mean folder?"),
    "no meter": (PLAIN.replace("meter = 17\n", ""), "[gateway] lacks meter"),
    "meter is text": (PLAIN.replace("meter = 17", "meter = '17'"), "meter: expected a whole"),
    "meter is true": (PLAIN.replace("meter = 17", "meter = true"), "meter: expected a whole"),
    "zone too large": (PLAIN.replace("zone = 1", "zone = 5000"), "zone: 5000 is out of range"),
    "no source": (PLAIN[: PLAIN.index("[[source]]")], "there is no [[source]]"),
    "one bracket": (PLAIN.replace("[[source]]", "[source]"), "two brackets"),
    "kind": (PLAIN.replace('"p1"', '"p2"'), "kind: p2 is not one of p1, sml"),
    "scheme": (PLAIN.replace("tcp://192", "http://192"), "expected tcp://... or serial://..."),
    "no port": (PLAIN.replace(":2001", ""), "no port in it"),
    "port": (PLAIN.replace(":2001", ":200100"), "not an address"),
    "serial": (PLAIN.replace("tcp://192.0.2.1:2001", "serial://ttyUSB0"), "serial:///dev/"),
    "address": (PLAIN.replace("0x1111", "0x11"), "registry: expected an address of 20 bytes"),
    "password": (PLAIN.replace("tcp://", "tcp://me:secret@"), "a password does not belong"),
    "unknown field": (PLAIN + "topik = 'a'\n", "does not know topik"),
    "no topic": (
        PLAIN.replace('"p1"', '"tasmota"').replace("tcp://192.0.2.1:2001", "mqtt://broker"),
        "lacks topic",
    ),
    "power without path": (
        PLAIN.replace('"p1"', '"power"').replace("tcp://192.0.2.1:2001", "http://192.0.2.1/"),
        "lacks power",
    ),
    "directions": (PLAIN + "directions = ['up']\n", "directions: expected"),
    "timezone": (PLAIN + "timezone = 'Mars/Base'\n", "unknown time zone"),
    "rules": (PLAIN + "near_s = 300\nbridge_s = 10\n", "bridge_s not below near_s"),
    "not a number": (PLAIN + "near_s = nan\n", "out of range"),
    "twice": (PLAIN + PLAIN[PLAIN.index("[[source]]") :], "two sources or devices are called p1"),
    "absent": (PLAIN.replace("zone = 1", "zone = 1\nabsent = 'export'"), "a source measures it"),
    "backoff": (
        PLAIN.replace("[[source]]", "first_s = 9\nmost_s = 3\n[[source]]"),
        "most_s lies below first_s",
    ),
    "device without chain": (
        PLAIN + "[[device]]\nkind = 'home_battery'\naddress = 'tcp://192.0.2.1:502'\n",
        "rpc and parameters",
    ),
    "market": (PLAIN + "[market]\nrelay = 'http://192.0.2.1'\n", "[chain] market"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    text, said = MISTAKES[name]
    file = written(tmp_path, text)
    with pytest.raises(BadUse) as refused:
        read(file)
    message = str(refused.value)
    assert said in message
    assert message.startswith(str(file))
    assert "\n" not in message
    assert "secret" not in message


def test_a_file_that_is_not_there_is_bad_use(tmp_path: Path) -> None:
    with pytest.raises(BadUse, match="cannot read"):
        read(tmp_path / "nothing.toml")
    with pytest.raises(BadUse, match="cannot read"):
        read(tmp_path)
