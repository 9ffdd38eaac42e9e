# SPDX-License-Identifier: Apache-2.0
"""What the forecasts are measured against, on the same series and from the same origins.

LightGBM: on the regressors of `forecasting.features`, one model per quantile and origin. Its
settings are ours: small trees, as a few months of one series ask for. Prophet: as it comes, with
Stan and with the intervals that it samples itself.
"""

from __future__ import annotations

import logging
from types import ModuleType

import numpy as np
import numpy.typing as npt

from dao.errors import CheckFailed
from forecasting.backtest import Home
from forecasting.features import History, load_features
from forecasting.model import QUANTILES, Settings
from forecasting.series import IntArray, calendar

TREES = 100
SETTINGS = {
    "objective": "quantile",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    "seed": 1,
    "deterministic": True,
    "verbose": -1,
}


def lightgbm() -> ModuleType:
    """The package. Raises CheckFailed where it is not installed."""
    try:
        import lightgbm as package
    except ImportError:
        raise CheckFailed(
            "lightgbm, which the forecasts are measured against, is not installed: run "
            "`make setup-bench`"
        ) from None
    module: ModuleType = package
    return module


def lightgbm_bands(
    home: Home, origins: IntArray, horizon: int, settings: Settings
) -> npt.NDArray[np.float64]:
    """(3, origins, horizon) quantiles, in order. The calendar is given as numbers as well."""
    package = lightgbm()
    series, values = home.series, home.series.values
    clock = calendar(
        series.start,
        series.step,
        values.size,
        settings.timezone,
        settings.country,
        settings.region,
    )
    of_day = clock.wall % 86_400 // series.step
    calendar_columns = [of_day, clock.day % 7, clock.workday]
    per_day = series.per_day
    bands = np.empty((len(QUANTILES), origins.size, horizon))
    for at, origin in enumerate(origins.tolist()):
        past = np.arange(max(7 * per_day, origin - settings.long_days * per_day), origin)
        past = past[~np.isnan(values[past])]
        ahead = np.arange(origin, origin + horizon)
        every = np.concatenate([past, ahead])
        leads = np.where(every < origin, (every - origin) % per_day, every - origin)
        columns = load_features(History(values[:origin], series.step, clock), every, leads)
        table = np.column_stack(
            [*columns.values(), *(column[every] for column in calendar_columns)]
        )
        for row, level in enumerate(QUANTILES):
            data = package.Dataset(table[: past.size], values[past])
            made = package.train({**SETTINGS, "alpha": level}, data, TREES)
            bands[row, at] = made.predict(table[past.size :])
    return np.sort(bands, axis=0)


def prophet_bands(
    home: Home, origins: IntArray, horizon: int, settings: Settings
) -> npt.NDArray[np.float64]:
    """(3, origins, horizon) quantiles of Prophet with no setting but the width of its interval.

    It gets the values of up to half a year before an origin, at the local wall clock.
    """
    import pandas as pd
    from prophet import Prophet

    logging.getLogger("cmdstanpy").disabled = True
    series, values = home.series, home.series.values
    clock = calendar(series.start, series.step, values.size, settings.timezone, None, None)
    stamps = pd.to_datetime(clock.wall, unit="s")
    bands = np.empty((len(QUANTILES), origins.size, horizon))
    np.random.seed(1)  # its intervals are sampled
    for at, origin in enumerate(origins.tolist()):
        past = np.arange(max(0, origin - settings.long_days * series.per_day), origin)
        model = Prophet(interval_width=QUANTILES[2] - QUANTILES[0])
        model.fit(pd.DataFrame({"ds": stamps[past], "y": values[past]}))
        made = model.predict(pd.DataFrame({"ds": stamps[origin : origin + horizon]}))
        for row, column in enumerate(("yhat_lower", "yhat", "yhat_upper")):
            bands[row, at] = made[column]
    return np.sort(bands, axis=0)
