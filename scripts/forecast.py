# SPDX-License-Identifier: Apache-2.0
"""`gridcommons forecast READINGS.csv --horizon N`: quantile forecast of any interval series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dao.errors import BadUse
from scripts._common import handles_errors, json_option, read_input

if TYPE_CHECKING:
    import numpy as np

    from forecasting.model import Kind
    from forecasting.series import Location


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
@click.argument("readings", metavar="READINGS.csv")
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
    output: Path | None,
    as_json: bool,
) -> None:
    """Forecast an interval series: 10 %, 50 % and 90 % quantiles and the mean.

    READINGS.csv has the columns timestamp,value with intervals of 15, 30 or 60 minutes; "-" reads
    standard input. An empty value or a missing row is a missing value. Timestamps without an offset
    are UTC, or the wall clock of --timezone. The answer has the columns
    timestamp,q10,q50,q90,mean, in the unit and with the kind of timestamps of the input; which
    model made it, and why, is told on standard error, and what was wrong with the values. Two weeks
    of values are needed for the full model; with less, last week, yesterday or the mean stands in.
    Columns temperature, radiation, cloud_cover, wind_speed or humidity are used where they reach
    over the horizon: rows with weather and an empty value at the end are what is forecast.
    """
    from forecasting.csv_input import parse_horizon, read_series

    place = place_of(latitude, longitude)
    name = "standard input" if readings == "-" else readings
    source = read_series(read_input(readings), name, timezone_name)
    count = parse_horizon(horizon, source.series.step)

    from forecasting.model import Settings, forecast

    chosen = kind_of(kind, [source.series.values])
    settings = Settings(
        kind=chosen,
        timezone=source.timezone,
        country=country.upper() if country else None,
        location=place,
    )
    result = forecast(source.series, count, settings, weather=source.weather)
    rows = [
        (source.style.write(result.start + at * result.step), *numbers)
        for at, numbers in enumerate(
            zip(
                result.q10.tolist(),
                result.q50.tolist(),
                result.q90.tolist(),
                result.mean.tolist(),
                strict=True,
            )
        )
    ]
    if as_json:
        text = json.dumps(
            {
                "source": name,
                "model": result.model,
                "reason": result.reason,
                "kind": chosen,
                "interval_minutes": result.step // 60,
                "horizon": count,
                "rows_read": int(source.series.values.size),
                "rows_missing": source.missing,
                "notes": list(source.notes),
                "findings": [asdict(finding) for finding in result.findings],
                "train_from": source.style.write(result.train_from),
                "train_until": source.style.write(result.train_until),
                "forecast": [
                    dict(zip(("timestamp", "q10", "q50", "q90", "mean"), row, strict=True))
                    for row in rows
                ],
            },
            indent=2,
        )
    else:
        lines = ["timestamp,q10,q50,q90,mean"]
        lines += [
            ",".join([stamp, *(format(number + 0.0, ".10g") for number in numbers)])
            for stamp, *numbers in rows
        ]
        text = "\n".join(lines)
        click.echo(f"Model: {result.model} ({result.reason})", err=True)
        for note in (*source.notes, *result.findings):
            click.echo(f"Note: {note}", err=True)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BadUse(f"cannot write {output}: {error.strerror or error}") from error


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
