# SPDX-License-Identifier: Apache-2.0
"""`gridcommons backtest READINGS.csv ...`: how good the forecasts would have been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse
from scripts._common import handles_errors, json_option, read_input
from scripts.forecast import (
    by_option,
    country_option,
    dask_option,
    kind_of,
    kind_option,
    latitude_option,
    longitude_option,
    place_of,
    time_option,
    timezone_option,
    value_option,
    where_to_run,
    workers_option,
)

if TYPE_CHECKING:
    from forecasting.backtest import Accuracy, Fairness, Run
    from forecasting.csv_input import ReadFile


@click.command(name="backtest")
@click.argument("readings", metavar="READINGS.csv...", nargs=-1, required=True)
@click.option(
    "--horizon",
    default="24h",
    show_default=True,
    metavar="N",
    help="How far each forecast reaches: a number of intervals, or a time like 24h or 2d.",
)
@timezone_option
@kind_option
@country_option
@latitude_option
@longitude_option
@click.option(
    "--origins",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the last N days. Default: every day with enough history.",
)
@click.option(
    "--test-from",
    metavar="DATE",
    help="Only days from this one on, e.g. 2017-02-01.",
)
@by_option
@time_option
@value_option
@workers_option
@dask_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw a chart here, as PNG or SVG by the name's ending.",
)
@json_option
@handles_errors
def cli(
    readings: tuple[str, ...],
    horizon: str,
    timezone_name: str | None,
    kind: str,
    country: str | None,
    latitude: float | None,
    longitude: float | None,
    origins: int | None,
    test_from: str | None,
    by: str | None,
    time_column: str | None,
    value_columns: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Forecast every day of a series from what was known at its beginning, and compare.

    READINGS.csv has the columns timestamp,value as for `gridcommons forecast`; several files, a
    column meter (or the one that --by names), or several columns named with --value are several
    homes. Each local midnight is an origin. Loss is the mean pinball loss of the 10 %, 50 % and
    90 % quantiles, beside that of yesterday's value with its residual quantiles ("vs yesterday";
    "by hour" with those of the hour) and of last week's. Coverage is that of the 80 % interval, for
    solar by day. Weather columns are taken as known in advance. Over several homes: the share
    served worse than by yesterday's value, the spread of their ratios (P90 / P50), the worst
    coverage gap, the bias in energy.
    """
    from forecasting.csv_input import parse_horizon, zone_of

    if output is not None and output.suffix.lower() not in (".png", ".svg"):
        raise BadUse(f"cannot draw {output}: expected a name that ends in .png or .svg")
    where_to_run(workers, dask)
    place = place_of(latitude, longitude)
    files = _read(readings, timezone_name, by, time_column, value_columns)
    first = files[0][1]
    step = first.series.step
    count = parse_horizon(horizon, step)
    for name, one in files:
        if one.series.step != step:
            raise BadUse(
                f"{name}: intervals of {one.series.step // 60} minutes, where {files[0][0]} has "
                f"{step // 60}; expected one length for all homes"
            )
    chosen = kind_of(kind, [one.series.values for _, one in files])

    from forecasting.backtest import Home, accuracy, backtest, fairness
    from forecasting.model import Settings

    settings = Settings(
        kind=chosen,
        timezone=first.timezone,
        country=country.upper() if country else None,
        location=place,
    )
    since = None if test_from is None else _midnight(test_from, zone_of_file(first, zone_of))
    homes = [Home(name, one.series, weather=one.weather or None) for name, one in files]
    runs = backtest(
        homes, count, settings, count=origins, test_from=since, workers=workers, dask=dask
    )
    each, together = [accuracy(run) for run in runs], fairness(runs)
    notes = list(dict.fromkeys(note for _, one in files for note in one.notes))
    if output is not None:
        from forecasting.chart import draw

        draw(runs, each, together, output)
    if as_json:
        click.echo(json.dumps(_json(files, runs, each, together, chosen, count, notes), indent=2))
        return
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(_table(runs, each, together, chosen))


def _read(
    readings: tuple[str, ...],
    timezone_name: str | None,
    by: str | None,
    time_column: str | None,
    value_columns: tuple[str, ...],
) -> list[tuple[str, ReadFile]]:
    """Every home of every file, under a name of its own."""
    from forecasting.csv_input import read_meters

    found: list[tuple[str, ReadFile]] = []
    for path in readings:
        shown = "standard input" if path == "-" else path
        stem = shown if path == "-" else Path(path).name.split(".")[0]
        meters = read_meters(
            read_input(path),
            shown,
            timezone_name,
            time_column=time_column,
            value_columns=value_columns,
            meter_column=by,
        )
        for one in meters:
            parts = [stem] if len(readings) > 1 or not one.name else []
            found.append((" ".join([*parts, *([one.name] if one.name else [])]), one))
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise BadUse("two homes of one name: give files of different names")
    return found


def zone_of_file(source: ReadFile, zone_of: Any) -> Any:
    """The time zone whose midnights the origins are."""
    from datetime import datetime

    if source.timezone.startswith("UTC") and source.timezone != "UTC":
        return datetime.fromisoformat(f"2000-01-01T00:00:00{source.timezone[3:]}").tzinfo
    return zone_of(source.timezone)


def _midnight(text: str, zone: Any) -> int:
    from datetime import datetime

    try:
        if len(text) != 10:
            raise ValueError(text)
        return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())
    except ValueError:
        raise BadUse(f"--test-from {text!r}: expected a date like 2017-02-01") from None


def _rounded(value: float | None) -> float | None:
    """For JSON, which has no NaN."""
    return None if value is None or value != value else round(value, 6)


def _json(
    files: list[tuple[str, ReadFile]],
    runs: list[Run],
    each: list[Accuracy],
    together: Fairness,
    kind: str,
    horizon: int,
    notes: list[str],
) -> dict[str, Any]:
    style = files[0][1].style
    return {
        "kind": kind,
        "interval_minutes": runs[0].step // 60,
        "horizon": horizon,
        "first_origin": style.write(min(int(run.origins[0]) for run in runs)),
        "last_origin": style.write(max(int(run.origins[-1]) for run in runs)),
        "notes": notes,
        "homes": [
            {
                "name": one.name,
                "origins": one.origins,
                "loss": _rounded(one.loss),
                "naive_loss": _rounded(one.naive_loss),
                "ratio": _rounded(one.ratio),
                "ratio_by_hour": _rounded(one.ratio_by_hour),
                "ratio_last_week": _rounded(one.ratio_week),
                "coverage": _rounded(one.coverage),
                "bias": _rounded(one.bias),
                "models": dict(one.models),
                "findings": list(one.findings),
            }
            for one in each
        ],
        "all": {
            "homes": together.homes,
            "ratio": _rounded(together.ratio),
            "ratio_by_hour": _rounded(together.ratio_by_hour),
            "ratio_last_week": _rounded(together.ratio_week),
            "coverage": _rounded(together.coverage),
            "left_behind": _rounded(together.left_behind),
            "parity": _rounded(together.parity),
            "coverage_gap": _rounded(together.coverage_gap),
            "bias": _rounded(together.bias),
        },
    }


def _table(runs: list[Run], each: list[Accuracy], together: Fairness, kind: str) -> str:
    heads = ("", "days", "loss", "vs yesterday", "by hour", "vs last week", "coverage", "bias")
    rows = [
        (
            one.name,
            str(one.origins),
            f"{one.loss:.4g}",
            *(f"{ratio:.3f}" for ratio in (one.ratio, one.ratio_by_hour, one.ratio_week)),
            f"{100 * one.coverage:.1f} %",
            _percent(one.bias),
        )
        for one in each
    ]
    if len(each) > 1:
        rows.append(
            (
                f"all {together.homes}",
                "",
                "",
                *(
                    f"{ratio:.3f}"
                    for ratio in (together.ratio, together.ratio_by_hour, together.ratio_week)
                ),
                f"{100 * together.coverage:.1f} %",
                _percent(together.bias),
            )
        )
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    lines = [f"Day by day, {kind}, intervals of {runs[0].step // 60} minutes."]
    lines += [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, *rows]
    ]
    if len(each) > 1:
        lines.append(
            f"Left behind: {100 * together.left_behind:.0f} % of the homes. "
            f"Parity (P90 / P50 of the ratios): {together.parity:.3f}. "
            f"Worst coverage gap: {together.coverage_gap:.3f}."
        )
    for one in each:
        simpler = {name: times for name, times in one.models.items() if name != "prophet"}
        told = [f"{name} on {times} days" for name, times in simpler.items()]
        told += list(one.findings)
        if told:
            lines.append(f"{one.name}: {'; '.join(told)}.")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{100 * share:+.1f} %"


if __name__ == "__main__":
    cli()
