# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from forecasting.ridge_backend import (
    NotRidge,
    RidgeProphet,
    cholesky_solve,
    fit_ridge,
    left_out_residuals,
)

logging.getLogger("cmdstanpy").disabled = True


def frame(days: int = 56) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    at = np.arange(days * 96)
    hour = at % 96 / 4
    y = 400 + 250 * np.sin((hour - 7) / 24 * 2 * np.pi) + 60 * rng.standard_normal(at.size)
    table = pd.DataFrame({"ds": pd.date_range("2016-05-02", periods=at.size, freq="15min"), "y": y})
    for lag in (96, 2 * 96, 7 * 96):
        table[f"lag{lag}"] = table["y"].shift(lag).bfill()
    table["workday"] = table["ds"].dt.dayofweek < 5
    table["free_day"] = ~table["workday"]
    return table


def model(kind: type[Prophet], **changes: object) -> Prophet:
    options = {
        "growth": "flat",
        "n_changepoints": 0,
        "daily_seasonality": False,
        "weekly_seasonality": False,
        "yearly_seasonality": False,
        "uncertainty_samples": 0,
    } | changes
    made = kind(**options)
    for condition in ("workday", "free_day"):
        made.add_seasonality(condition, 1, 6, condition_name=condition)
    for lag in (96, 192, 672):
        made.add_regressor(f"lag{lag}", prior_scale=1.0)
    return made


def test_the_closed_form_forecasts_what_stan_forecasts_and_faster() -> None:
    table = frame()
    began = time.perf_counter()
    ridge = model(RidgeProphet).fit(table)
    closed = time.perf_counter() - began
    began = time.perf_counter()
    stan = model(Prophet).fit(table)
    reference = time.perf_counter() - began
    difference = ridge.predict(table)["yhat"] - stan.predict(table)["yhat"]
    assert np.abs(difference).max() < 2e-4 * table["y"].abs().max()
    assert ridge.params["sigma_obs"].item() == pytest.approx(
        stan.params["sigma_obs"].item(), rel=1e-3
    )
    assert closed < reference
    # Stan's default search stops early; searching on, it comes to the point that we solve for.
    tight = {"tol_rel_obj": 1, "tol_rel_grad": 1, "tol_obj": 1e-14, "tol_param": 1e-12}
    exact = model(Prophet).fit(table, tol_grad=1e-10, **tight).predict(table)["yhat"]
    assert np.abs(ridge.predict(table)["yhat"] - exact).max() < 1e-5 * table["y"].abs().max()


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_direct_preparation_lays_out_what_prophets_own_lays_out(shuffled: bool) -> None:
    table = frame(days=20)
    if shuffled:
        table = table.sample(frac=1, random_state=1).reset_index(drop=True)
    direct, own = model(RidgeProphet), model(Prophet)
    for one in (direct, own):
        for name in one.extra_regressors:
            one.extra_regressors[name]["standardize"] = True
    ours, theirs = direct.preprocess(table.copy()), own.preprocess(table.copy())
    assert isinstance(ours.X, np.ndarray)  # Prophet's own way would make a table
    np.testing.assert_allclose(ours.X, np.asarray(theirs.X), rtol=1e-12, atol=1e-12)
    for name in ("y", "t", "sigmas", "s_a", "s_m", "cap", "t_change"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)
    for name in ("T", "S", "K", "tau", "trend_indicator"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert direct.y_scale == own.y_scale
    assert direct.start == own.start


def test_the_points_are_prophets_own_prediction() -> None:
    table = frame(days=20)
    made = model(RidgeProphet)
    for regressor in made.extra_regressors.values():
        regressor["standardize"] = True
    made.fit(table.iloc[: 15 * 96])
    later = table.iloc[15 * 96 :]
    np.testing.assert_allclose(made.point(later), made.predict(later)["yhat"], rtol=1e-10)


def test_a_strong_prior_is_weighed_against_the_noise_as_stan_weighs_it() -> None:
    # With few rows and tight priors the noise scale decides how much is shrunk.
    table = frame(days=3)
    made = []
    for kind in (RidgeProphet, Prophet):
        one = kind(
            growth="flat", n_changepoints=0, daily_seasonality=False, weekly_seasonality=False,
            yearly_seasonality=False, uncertainty_samples=0,
        )  # fmt: skip
        one.add_seasonality("daily", 1, 6, prior_scale=0.02)
        made.append(one.fit(table).predict(table)["yhat"].to_numpy())
    assert np.abs(made[0] - made[1]).max() < 2e-4 * table["y"].abs().max()


def test_the_fit_is_the_top_of_the_joint_posterior() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((200, 4))
    target = features @ np.array([0.3, -0.2, 0.0, 0.1]) + 0.1 * rng.standard_normal(200)
    scales = np.array([10.0, 0.05, 1.0, 0.01])
    fit = fit_ridge(features, target, scales)

    def log_posterior(weights: np.ndarray, sigma: float) -> float:
        rest = target - weights[0] - features @ weights[1:]
        prior = np.sum((weights / np.array([5.0, *scales])) ** 2) / 2
        return float(
            -200 * np.log(sigma) - rest @ rest / (2 * sigma**2) - prior - sigma**2 / (2 * 0.25)
        )

    top = log_posterior(fit.weights, fit.sigma)
    for at in range(6):
        for step in (-1e-3, 1e-3):
            weights, sigma = fit.weights.copy(), fit.sigma
            if at < 5:
                weights[at] += step
            else:
                sigma += step
            assert log_posterior(weights, sigma) < top


def test_leaving_a_group_out_equals_fitting_without_it() -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((300, 3))
    target = features @ np.array([0.5, 0.1, -0.3]) + 0.2 * rng.standard_normal(300)
    fit = fit_ridge(features, target, np.full(3, 1.0))
    groups = np.repeat(np.arange(30), 10)
    groups[:100] = -1
    residuals = left_out_residuals(fit, groups)
    assert np.isnan(residuals[:100]).all()
    rest = groups != 20
    design = np.column_stack([np.ones(300), features])
    penalty = fit.sigma**2 * np.diag(1 / np.array([25.0, 1.0, 1.0, 1.0]))
    weights = np.linalg.solve(
        design[rest].T @ design[rest] + penalty, design[rest].T @ target[rest]
    )
    expected = target[~rest] - design[~rest] @ weights
    np.testing.assert_allclose(residuals[~rest], expected, atol=1e-3)


def test_the_solver_solves() -> None:
    rng = np.random.default_rng(3)
    half = rng.standard_normal((5, 8, 8))
    systems = half @ half.transpose(0, 2, 1) + np.eye(8)
    sides = rng.standard_normal((5, 8))
    found = cholesky_solve(systems, sides)
    np.testing.assert_allclose(np.einsum("gij,gj->gi", systems, found), sides, atol=1e-10)


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    program = (
        "import numpy as np\n"
        "from forecasting.ridge_backend import fit_ridge\n"
        "rng = np.random.default_rng(5)\n"
        "x = rng.standard_normal((6000, 60)); y = x @ rng.standard_normal(60) / 60\n"
        "print(fit_ridge(x, y + rng.standard_normal(6000), np.ones(60)).weights.tobytes().hex())\n"
    )
    answers = set()
    for threads in ("1", "2"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        answers.add(done.stdout)
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"growth": "linear"}, "flat"),
        ({"seasonality_mode": "multiplicative"}, "additive"),
        ({"mcmc_samples": 10}, "samples"),
    ],
)
def test_any_other_model_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(NotRidge, match=words):
        model(RidgeProphet, **changes).fit(frame(days=8))
