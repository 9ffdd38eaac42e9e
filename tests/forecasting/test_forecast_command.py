# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import gzip
import io
import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scripts.forecast import cli


def lines(days: float, step: int = 60, style: str = "{:%Y-%m-%dT%H:%M:%S}Z") -> list[str]:
    start = datetime(2024, 3, 1, tzinfo=UTC)
    count = int(days * 1440 / step)
    return [
        f"{style.format(start + timedelta(minutes=step * at))},"
        f"{2 + math.sin(at * step / 1440 * 2 * math.pi) + 0.1 * math.sin(at * at):.4f}"
        for at in range(count)
    ]


def write(path: Path, rows: list[str], header: str = "timestamp,value") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli, [str(part) for part in arguments])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_file_in_gives_quantiles_out_in_the_same_style(tmp_path: Path) -> None:
    done = run(write(tmp_path / "in.csv", lines(21)), "--horizon", 24)
    assert done.exit_code == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows[0]) == ["timestamp", "q10", "q50", "q90", "mean"]
    assert len(rows) == 24
    assert rows[0]["timestamp"] == "2024-03-22T00:00:00Z"
    for row in rows:
        assert float(row["q10"]) <= float(row["q50"]) <= float(row["q90"])
    assert done.stderr.startswith("Model: prophet (")


@pytest.mark.parametrize(
    ("style", "first"),
    [
        ("{:%Y-%m-%d %H:%M}", "2024-03-22 00:00"),
        ("{:%Y-%m-%dT%H:%M:%S}+02:00", "2024-03-22T00:00:00+02:00"),
        ("{:%Y-%m-%d %H:%M:%S}-05:30", "2024-03-22 00:00:00-05:30"),
    ],
)
def test_timestamps_come_back_as_they_were_written(tmp_path: Path, style: str, first: str) -> None:
    done = run(write(tmp_path / "in.csv", lines(21, 30, style)), "--horizon", "1d")
    assert done.exit_code == 0, done.stderr
    assert table(done.stdout)[0]["timestamp"] == first


def test_json_names_model_and_reason(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", lines(9))
    done = run(source, "--horizon", "2d", "--json")
    made = json.loads(done.stdout)
    assert made["model"] == "seasonal-naive-week"
    assert "9.0 days" in made["reason"]
    assert len(made["forecast"]) == 48
    assert done.stderr == ""


def test_the_answer_goes_to_the_file_that_is_named(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", lines(9)), tmp_path / "out.csv"
    done = run(source, "--horizon", 3, "-o", target)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert len(table(target.read_text(encoding="utf-8"))) == 3


def test_missing_rows_and_values_stay_missing(tmp_path: Path) -> None:
    rows = lines(21)
    stamp = rows[100].split(",")[0]
    rows[100] = f"{stamp},"
    del rows[200:230]
    done = run(write(tmp_path / "in.csv", rows), "--horizon", 24, "--json")
    made = json.loads(done.stdout)
    assert made["rows_missing"] == 31
    assert made["rows_read"] == 21 * 24
    assert min(row["q10"] for row in made["forecast"]) > 0.5


def test_local_time_is_understood_where_its_zone_is_named(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2024, 10, 10, tzinfo=UTC)
    local = [(start + timedelta(hours=at)).astimezone(zone) for at in range(20 * 24)]
    rows = [f"{moment:%Y-%m-%d %H:%M},{1 + moment.hour}" for moment in local]
    source = write(tmp_path / "in.csv", rows)
    done = run(source, "--horizon", 24, "--timezone", "Europe/Berlin")
    assert done.exit_code == 0, done.stderr
    assert table(done.stdout)[0]["timestamp"] == "2024-10-30 01:00"
    without = run(source, "--horizon", 24)
    assert without.exit_code == 2
    assert "--timezone" in without.stderr


def test_timestamps_without_a_zone_are_taken_as_utc_and_told(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", lines(21, 60, "{:%Y-%m-%d %H:%M}"))
    done = run(source, "--horizon", 24)
    assert "Note: time zone missing: " in done.stderr
    assert "time zone" not in run(source, "--horizon", 24, "--timezone", "Asia/Tokyo").stderr


def test_what_was_wrong_with_the_values_is_told_with_what_was_done(tmp_path: Path) -> None:
    rows = lines(30)
    for at in range(300, 348):
        rows[at] = f"{rows[at].split(',')[0]},1.2345"
    source = write(tmp_path / "in.csv", rows)
    done = run(source, "--horizon", 24)
    assert done.exit_code == 0
    assert "Note: frozen: one value repeated for a day or longer (48 of 720 values); left out" in (
        done.stderr
    )
    made = json.loads(run(source, "--horizon", 24, "--json").stdout)
    assert [finding["name"] for finding in made["findings"]] == ["frozen"]


def test_rows_with_weather_and_no_value_are_what_is_forecast(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = lines(41)
    cold = np.repeat(rng.uniform(-5, 15, 41), 24)
    told = []
    for at, row in enumerate(rows):
        stamp, value = row.split(",")
        told.append(f"{stamp},{float(value) + max(0.0, 12 - cold[at]):.4f},{cold[at]:.2f}")
    actual = [float(row.split(",")[1]) for row in told[-24:]]
    told[-24:] = [f"{row.split(',')[0]},,{row.split(',')[2]}" for row in told[-24:]]
    header = "timestamp,value,temperature"
    done = run(write(tmp_path / "in.csv", told, header), "--horizon", 24, "--json")
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["forecast"][0]["timestamp"] == rows[-24].split(",")[0]
    assert made["rows_missing"] == 0
    blind = [row.rsplit(",", 1)[0] for row in told[:-24]]
    plain = run(write(tmp_path / "plain.csv", blind), "--horizon", 24, "--json")
    errors = [
        np.abs(np.subtract([row["q50"] for row in answer["forecast"]], actual)).mean()
        for answer in (made, json.loads(plain.stdout))
    ]
    assert errors[0] < 0.4 * errors[1]
    # Weather that ends with the values is of no use for the day after them, and that is told.
    short = run(write(tmp_path / "in.csv", told[:-24], header), "--horizon", 24)
    assert "weather column temperature does not reach" in short.stderr


def test_a_compressed_file_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "in.csv", lines(21))
    packed = tmp_path / "in.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert run(packed, "--horizon", 24).stdout == run(plain, "--horizon", 24).stdout
    packed.write_bytes(packed.read_bytes()[:500])
    done = run(packed, "--horizon", 24)
    assert done.exit_code == 2
    assert "damaged gzip" in done.stderr


def test_several_meters_are_not_forecast_as_one(tmp_path: Path) -> None:
    rows = [f"{row},{meter}" for row in lines(15) for meter in "ab"]
    done = run(write(tmp_path / "in.csv", rows, "timestamp,value,meter"), "--horizon", 24)
    assert done.exit_code == 2
    assert "2 meters; expected one" in done.stderr


def broken(rows: list[str], at: int, row: str) -> list[str]:
    return [*rows[:at], row, *rows[at + 1 :]]


GOOD = lines(15)
STAMP = GOOD[5].split(",")[0]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("time,value", GOOD, "expected a header line timestamp,value"),
        ("timestamp,value,more", GOOD, "expected a header line timestamp,value"),
        ("timestamp,value", broken(GOOD, 5, f"{STAMP},twelve"), "row 7: 'twelve' is not a number"),
        ("timestamp,value", broken(GOOD, 5, f"{STAMP},inf"), "row 7: 'inf' is not a number"),
        ("timestamp,value", broken(GOOD, 5, "yesterday,1"), "row 7: 'yesterday'"),
        ("timestamp,value", broken(GOOD, 5, f"{STAMP},1,5"), "row 7: 3 fields"),
        ("timestamp,value", broken(GOOD, 5, GOOD[4]), "row 7: 2024-03-01 04:00:00+00:00 is there"),
        ("timestamp,value", broken(GOOD, 5, GOOD[2]), "row 7: 2024-03-01 02:00:00+00:00 comes"),
        ("timestamp,value", [*GOOD, *lines(16, 15)[15 * 96 + 1 :]], "mixed intervals"),
        ("timestamp,value", broken(GOOD, 5, "2024-03-01T05:00:00,1"), "some timestamps have an"),
        ("timestamp,value", lines(15, 20), "expected 15, 30 or 60 minutes"),
        ("timestamp,value", [row.split(",")[0] + "," for row in GOOD], "every value is missing"),
        ("timestamp,value", [f"{row.split(',')[0]},0" for row in GOOD], "every value is zero"),
        ("timestamp,value,value", GOOD, "two have one name"),
        ("timestamp,value", GOOD[:5], "too short"),
        ("timestamp,value", [], "too short"),
    ],
)
def test_a_bad_file_ends_with_one_line_that_names_the_row(
    tmp_path: Path, header: str, rows: list[str], words: str
) -> None:
    target = tmp_path / "out.csv"
    done = run(write(tmp_path / "in.csv", rows, header), "--horizon", 24, "-o", target)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        (["2024-03-31 01:00", "2024-03-31 02:00"], "does not exist in Europe/Berlin"),
        (["2024-10-27 01:00", "2024-10-27 02:00"], "occurs twice in Europe/Berlin"),
    ],
)
def test_a_wall_clock_that_means_nothing_or_two_things_is_refused(
    tmp_path: Path, stamps: list[str], words: str
) -> None:
    source = write(tmp_path / "in.csv", [f"{stamp},1" for stamp in stamps])
    done = run(source, "--horizon", 1, "--timezone", "Europe/Berlin")
    assert done.exit_code == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--horizon", "0"], "more than zero"),
        (["--horizon=-3"], "more than zero"),
        (["--horizon", "soon"], "24h, 2d or 90min"),
        (["--horizon", "90min"], "not a whole number of 60-minute"),
        (["--horizon", "99d"], "at most 31 days"),
        (["--horizon", "1", "--timezone", "Mars/Base"], "unknown time zone"),
        (["--horizon", "1", "--country", "XX"], "no holidays known"),
        (["--horizon", "1", "--latitude", "50"], "both --latitude and --longitude"),
        (["--horizon", "1", "--latitude", "95", "--longitude", "0"], "no such place"),
        (["--horizon", "1", "-o", "/nowhere/at/all.csv"], "cannot write"),
    ],
)
def test_bad_options_end_with_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    done = run(write(tmp_path / "in.csv", GOOD), *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_an_unreadable_or_binary_file_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path / "none.csv", "--horizon", 1).exit_code == 2
    source = tmp_path / "in.csv"
    source.write_bytes(b"\xff\xfe\x00\x80" * 10)
    done = run(source, "--horizon", 1)
    assert done.exit_code == 2
    assert "UTF-8" in done.stderr


def test_help_needs_neither_prophet_nor_numpy() -> None:
    program = (
        "import sys, scripts.forecast\n"
        "print(sorted({'prophet', 'numpy', 'pandas'} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert ended.stdout == "[]\n"


def homes_of(days: int) -> list[str]:
    """Three homes in one file, one of them young, one with a comma in its name."""
    rows = []
    for at, row in enumerate(lines(days)):
        stamp, value = row.split(",")
        rows.append(f'{stamp},"a, b",{value}')
        rows.append(f"{stamp},c,{3 * float(value):.4f}")
        if at >= (days - 5) * 24:
            rows.append(f"{stamp},young,{2 * float(value):.4f}")
    return rows


def test_many_homes_of_one_file_add_up_to_their_sum(tmp_path: Path) -> None:
    source = write(tmp_path / "homes.csv", homes_of(21), "timestamp,home,value")
    done = run(source, "--by", "home", "--horizon", 24)
    assert done.exit_code == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows[0]) == ["home", "timestamp", "q10", "q50", "q90", "mean"]
    assert [row["home"] for row in rows] == ["a, b"] * 24 + ["c"] * 24 + ["young"] * 24
    assert "Model: neighbours for 1 of 3 homes (young)" in done.stderr
    made = json.loads(run(source, "--by", "home", "--horizon", 24, "--json").stdout)
    assert [home["counted"] for home in made["homes"]] == [True, True, False]
    sums = [
        sum(home["forecast"][at]["mean"] for home in made["homes"] if home["counted"])
        for at in range(24)
    ]
    np.testing.assert_allclose(sums, [row["mean"] for row in made["zone"]["forecast"]])


def test_a_folder_is_a_home_for_each_file_and_columns_are_homes_too(tmp_path: Path) -> None:
    folder = tmp_path / "street"
    folder.mkdir()
    rows = lines(21)
    write(folder / "a.csv", rows)
    (folder / "b.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))
    (folder / "notes.txt").write_text("no home")
    done = run(folder, "--horizon", 3)
    assert done.exit_code == 0, done.stderr
    assert [row["home"] for row in table(done.stdout)] == ["a"] * 3 + ["b"] * 3
    wide = write(
        tmp_path / "wide.csv", [f"{row},{row.split(',')[1]}" for row in rows], "timestamp,a,b"
    )
    assert run(wide, "--value", "[ab]", "--horizon", 3).stdout == done.stdout
    (folder / "b.csv").write_text((folder / "a.csv").read_text())
    assert "two files of one name" in run(folder, "--horizon", 3).stderr
    (folder / "b.csv").unlink()
    write(folder / "c.csv", lines(21, 30))
    assert "expected one length for all homes" in run(folder, "--horizon", 3).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "street"], "no street; expected the column that --by names"),
        ([], "what is home?"),
        (["--by", "home", "--dask", "x", "--workers", "2"], "name one"),
        (["--value", "nothing"], "no nothing"),
    ],
)
def test_bad_options_for_many_homes_end_with_one_line(
    tmp_path: Path, options: list[str], words: str
) -> None:
    source = write(tmp_path / "homes.csv", homes_of(15), "timestamp,home,value")
    done = run(source, "--horizon", 24, *options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_home_without_a_name_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [f",{row}" for row in lines(15)], "home,timestamp,value")
    done = run(source, "--by", "home", "--horizon", 24)
    assert done.exit_code == 2
    assert "row 2: no home; expected whose value it is" in done.stderr


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_tabs_and_decimal_commas_are_read(tmp_path: Path, separator: str) -> None:
    plain = write(tmp_path / "plain.csv", lines(21))
    rows = [row.replace(",", separator).replace(".", ",") for row in lines(21)]
    other = write(tmp_path / "other.csv", rows, f"timestamp{separator}value")
    assert run(other, "--horizon", 24).stdout == run(plain, "--horizon", 24).stdout
