# SPDX-License-Identifier: Apache-2.0
"""`gridcommons forecast READINGS --horizon N`: quantile forecast of one series, or of many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse
from scripts._common import handles_errors, json_option, read_input

if TYPE_CHECKING:
    import numpy as np

    from forecasting.csv_input import ReadFile
    from forecasting.fit import Kind
    from forecasting.homes import HomeInput, Street
    from forecasting.model import QuantileForecast
    from forecasting.series import Location


_HEADER = ("timestamp", "q10", "q50", "q90", "mean")
LEAST_BELOW = 0.002
"""Share of values below zero that makes a series net energy; fewer are faults of a load meter."""

timezone_option = click.option(
    "--timezone",
    "timezone_name",
    metavar="ZONE",
    help="IANA time zone the values follow, e.g. Europe/Berlin. Default: UTC or the file's offset.",
)
kind_option = click.option(
    "--kind",
    type=click.Choice(["auto", "load", "net", "solar"]),
    default="auto",
    show_default=True,
    help="What is measured. auto: net where values fall below zero, else load.",
)
country_option = click.option(
    "--country", metavar="CODE", help="Public holidays of this country, e.g. DE."
)
latitude_option = click.option(
    "--latitude", type=float, help="For the sun's position (net and solar)."
)
longitude_option = click.option(
    "--longitude", type=float, help="For the sun's position (net and solar)."
)
by_option = click.option(
    "--by",
    metavar="COLUMN",
    help="Many homes in one file: the column that says whose row it is.",
)
time_option = click.option("--time", "time_column", metavar="COLUMN", help="Instead of timestamp.")
value_option = click.option(
    "--value",
    "value_columns",
    metavar="COLUMN",
    multiple=True,
    help="Instead of value: a column or a pattern, e.g. 'h*_load'. Several are several homes.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes for many homes. Default: one per core.",
)
dask_option = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Run on the Dask cluster with this scheduler, e.g. tcp://10.0.0.5:8786 (extra: dask).",
)


@click.command(name="forecast")
@click.argument("readings", metavar="READINGS")
@click.option(
    "--horizon",
    required=True,
    metavar="N",
    help="How far: a number of intervals, or a time like 24h, 2d, 90min (at most 31 days).",
)
@timezone_option
@kind_option
@country_option
@latitude_option
@longitude_option
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
    help="Write here instead of to standard output.",
)
@json_option
@handles_errors
def cli(
    readings: str,
    horizon: str,
    timezone_name: str | None,
    kind: str,
    country: str | None,
    latitude: float | None,
    longitude: float | None,
    by: str | None,
    time_column: str | None,
    value_columns: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Forecast an interval series: 10 %, 50 % and 90 % quantiles and the mean.

    READINGS is a file with the columns timestamp,value and intervals of 15, 30 or 60 minutes; "-"
    reads standard input. An empty value or a missing row is a missing value. Timestamps without an
    offset are UTC, or the wall clock of --timezone. The answer has the columns
    timestamp,q10,q50,q90,mean, in the unit and with the kind of timestamps of the input; which
    model made it, and why, is told on standard error, and what was wrong with the values. Two weeks
    of values are needed for the full model; with less, last week, yesterday or the mean stands in.
    Columns temperature, radiation, cloud_cover, wind_speed or humidity are used where they reach
    over the horizon: rows with weather and an empty value at the end are what is forecast.

    Many homes: a file with a column that --by names, several columns that --value names, or a
    folder with a file each. The answer then begins with the home's name. A home with less than two
    weeks borrows the shape of the others, and the means add up to the forecast of all homes
    together, which --json shows as well.
    """
    where_to_run(workers, dask)
    place = place_of(latitude, longitude)
    options = _Options(kind, country.upper() if country else None, place, horizon)
    sources, many = _sources(readings, timezone_name, by, time_column, value_columns)
    if many:
        text, told = _homes(sources, by or "home", options, workers, dask, as_json)
    elif (workers, dask) != (None, None):
        raise BadUse("--workers and --dask are for many homes, and this is one")
    else:
        text, told = _one(readings, sources[0], options, as_json)
    for line in told:
        click.echo(line, err=True)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BadUse(f"cannot write {output}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Options:
    kind: str
    country: str | None
    place: Location | None
    horizon: str


def _one(
    readings: str, source: ReadFile, options: _Options, as_json: bool
) -> tuple[str, list[str]]:
    """The answer for one series, and the lines for standard error."""
    from forecasting.csv_input import parse_horizon

    name = "standard input" if readings == "-" else readings
    count = parse_horizon(options.horizon, source.series.step)

    from forecasting.model import forecast

    home = _input(source, options)
    result = forecast(home.series, count, home.settings, weather=home.weather)
    if as_json:
        document = {
            "source": name,
            **_told(result, home),
            "interval_minutes": result.step // 60,
            "horizon": count,
            "rows_read": int(source.series.values.size),
            "rows_missing": source.missing,
            "notes": list(source.notes),
            "train_from": source.style.write(result.train_from),
            "train_until": source.style.write(result.train_until),
            "forecast": [dict(zip(_HEADER, row, strict=True)) for row in _rows(result, source)],
        }
        return json.dumps(document, indent=2), []
    lines = [",".join(_HEADER), *(_line(row) for row in _rows(result, source))]
    told = [f"Model: {result.model} ({result.reason})"]
    told += [f"Note: {note}" for note in (*source.notes, *result.findings)]
    return "\n".join(lines), told


def _homes(
    sources: list[ReadFile],
    label: str,
    options: _Options,
    workers: int | None,
    dask: str | None,
    as_json: bool,
) -> tuple[str, list[str]]:
    """The answer for many homes, and the lines for standard error."""
    from forecasting.csv_input import parse_horizon

    count = parse_horizon(options.horizon, sources[0].series.step)

    from forecasting.homes import forecast_street

    homes = [_input(source, options) for source in sources]
    street = forecast_street(homes, count, workers=workers, dask=dask)
    if as_json:
        return json.dumps(_street_json(street, sources, homes, label, count), indent=2), []
    lines = [",".join([label, *_HEADER])]
    for source, made in zip(sources, street.homes, strict=True):
        quoted = _quoted(source.name)
        lines += [f"{quoted},{_line(row)}" for row in _rows(made, source)]
    told = []
    for model in dict.fromkeys(made.model for made in street.homes):
        names = [
            source.name
            for source, made in zip(sources, street.homes, strict=True)
            if made.model == model
        ]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        told.append(f"Model: {model} for {len(names)} of {len(sources)} homes ({shown})")
    if street.zone is None:
        told.append("Note: too few homes with a history: the means are not fitted to their sum")
    else:
        told.append(
            f"The means of {len(street.counted)} homes add up to the forecast of their sum "
            f"({street.zone.model})"
        )
    told += [f"Note: {note}" for note in dict.fromkeys(n for one in sources for n in one.notes)]
    for source, made in zip(sources, street.homes, strict=True):
        told += [f"Note: {source.name}: {finding}" for finding in made.findings]
    return "\n".join(lines), told


def _street_json(
    street: Street, sources: list[ReadFile], homes: list[HomeInput], label: str, horizon: int
) -> dict[str, Any]:
    def series(made: QuantileForecast, source: ReadFile) -> list[dict[str, Any]]:
        return [dict(zip(_HEADER, row, strict=True)) for row in _rows(made, source)]

    return {
        "interval_minutes": street.homes[0].step // 60,
        "horizon": horizon,
        "notes": list(dict.fromkeys(note for one in sources for note in one.notes)),
        "homes": [
            {
                label: source.name,
                **_told(made, home),
                "counted": at in street.counted,
                "forecast": series(made, source),
            }
            for at, (source, home, made) in enumerate(
                zip(sources, homes, street.homes, strict=True)
            )
        ],
        "zone": None
        if street.zone is None
        else {
            "model": street.zone.model,
            "reason": street.zone.reason,
            "forecast": series(street.zone, sources[street.counted[0]]),
        },
    }


def _sources(
    readings: str,
    timezone_name: str | None,
    by: str | None,
    time_column: str | None,
    value_columns: tuple[str, ...],
) -> tuple[list[ReadFile], bool]:
    """Every home of a file or of a folder with a file each, and whether many were meant."""
    from forecasting.csv_input import METER, read_meters

    def read(path: str) -> list[ReadFile]:
        return read_meters(
            read_input(path),
            "standard input" if path == "-" else path,
            timezone_name,
            time_column=time_column,
            value_columns=value_columns,
            meter_column=by,
        )

    folder = Path(readings)
    if not folder.is_dir():
        sources = read(readings)
        if len(sources) > 1 and by is None and not value_columns:
            raise BadUse(
                f"{readings}: {len(sources)} meters; expected one, or --by {METER} for many homes"
            )
        _same_step([one.name for one in sources], sources)
        return sources, by is not None or len(sources) > 1
    if by is not None:
        raise BadUse("--by is for one file with many homes; in a folder each file is a home")
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise BadUse(f"{folder}: no .csv or .csv.gz in this folder; expected one for each home")
    sources = []
    for path in files:
        found = read(str(path))
        if len(found) > 1:
            raise BadUse(f"{path}: {len(found)} meters; in a folder each file is one home")
        sources.append(replace(found[0], name=path.name.split(".csv")[0]))
    if len({one.name for one in sources}) < len(sources):
        raise BadUse(f"{folder}: two files of one name, one of them packed; keep one")
    _same_step([str(path) for path in files], sources)
    return sources, True


def _same_step(names: list[str], sources: list[ReadFile]) -> None:
    first = sources[0].series.step
    for name, one in zip(names, sources, strict=True):
        if one.series.step != first:
            raise BadUse(
                f"{name}: intervals of {one.series.step // 60} minutes, where {names[0]} has "
                f"{first // 60}; expected one length for all homes"
            )


def _input(source: ReadFile, options: _Options) -> HomeInput:
    from forecasting.homes import HomeInput
    from forecasting.model import Settings

    settings = Settings(
        kind=kind_of(options.kind, [source.series.values]),
        timezone=source.timezone,
        country=options.country,
        location=options.place,
    )
    return HomeInput(source.series, settings, weather=source.weather)


def _told(made: QuantileForecast, home: HomeInput) -> dict[str, Any]:
    return {
        "model": made.model,
        "reason": made.reason,
        "kind": home.settings.kind,
        "findings": [asdict(finding) for finding in made.findings],
    }


def _rows(made: QuantileForecast, source: ReadFile) -> list[tuple[Any, ...]]:
    """Timestamp as the file writes it, three quantiles and the mean of every interval."""
    numbers = zip(
        *(part.tolist() for part in (made.q10, made.q50, made.q90, made.mean)), strict=True
    )
    return [
        (source.style.write(made.start + at * made.step), *row) for at, row in enumerate(numbers)
    ]


def _line(row: tuple[Any, ...]) -> str:
    stamp, *numbers = row
    return ",".join([stamp, *(format(number + 0.0, ".10g") for number in numbers)])


def _quoted(name: str) -> str:
    """A name as a CSV cell."""
    if any(mark in name for mark in ',"\n\r'):
        return '"' + name.replace('"', '""') + '"'
    return name


def place_of(latitude: float | None, longitude: float | None) -> Location | None:
    """The place that two options name together. BadUse where one is missing."""
    from forecasting.series import Location

    if (latitude is None) != (longitude is None):
        raise BadUse("a place needs both --latitude and --longitude")
    return None if latitude is None or longitude is None else Location(latitude, longitude)


def where_to_run(workers: int | None, dask: str | None) -> None:
    """BadUse where both kinds of processes are asked for."""
    if workers is not None and dask is not None:
        raise BadUse("--workers and --dask: name one, a cluster has its own workers")


def kind_of(kind: str, values: Sequence[np.ndarray]) -> Kind:
    """What `--kind` means for these series: auto is net where any falls below zero now and then."""
    if kind != "auto":
        return kind  # type: ignore[return-value]
    below = any((one < 0.0).mean() >= LEAST_BELOW for one in values)
    return "net" if below else "load"


if __name__ == "__main__":
    cli()
