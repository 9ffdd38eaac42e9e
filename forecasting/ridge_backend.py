# SPDX-License-Identifier: Apache-2.0
"""Prophet's fit in closed form, behind Prophet's own `stan_backend` interface.

With flat growth, additive terms and no changepoints, Prophet's posterior is a Gaussian ridge
regression whose only non-linear unknown is the noise scale. This module solves exactly that case
and refuses every other one, so that a caller never gets a different model than it asked for.

The posterior (prophet.stan), with w = (m, beta) and prior scales s = (5, sigmas):

    -T log(sigma) - |y - X w|^2 / (2 sigma^2) - sum (w_k / s_k)^2 / 2 - sigma^2 / (2 * 0.5^2)

- given sigma, w solves (X'X + sigma^2 diag(1/s^2)) w = X'y;
- given w, sigma^2 is the positive root of  4 sigma^4 + T sigma^2 - |y - X w|^2 = 0;
- the two are repeated until sigma stands still. Each step can only raise the posterior.

The same bits everywhere: every column is rounded to so few bits that all sums of products stay
below 2^53. X'X is then exact, whatever order, thread count or vector unit adds it up. What follows
is a small Cholesky factorisation written with element-wise operations only, which IEEE 754 fixes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prophet import Prophet
from prophet.models import IStanBackend, ModelInputData, TrendIndicator

from dao.errors import GridCommonsError

FloatArray = npt.NDArray[np.float64]

_OFFSET_PRIOR = 5.0  # m ~ normal(0, 5) in prophet.stan
_NOISE_PRIOR = 0.5  # sigma_obs ~ normal(0, 0.5)
_MAX_ITERATIONS = 500
_TOLERANCE = 1e-12
_EXACT_BITS = 53  # integers up to 2^53 are exact in float64
# Of the largest value. A series without any noise would switch the priors off, and regressors that
# repeat each other could then no longer be told apart; Stan does not converge there either.
_SMALLEST_NOISE = 1e-4


class NotRidge(GridCommonsError):
    """The model is not a ridge regression; fit it with Stan instead."""


@dataclass(frozen=True)
class RidgeFit:
    """The exact sums of one fit, kept so that days can be left out without a new fit.

    design: (T, K+1) rounded columns, the first is the constant 1; target: (T,) rounded y.
    precision: (K+1,) 1/s^2 of the priors. weights: (K+1,) the MAP. sigma: noise scale.
    """

    design: FloatArray
    target: FloatArray
    gram: FloatArray
    moment: FloatArray
    precision: FloatArray
    weights: FloatArray
    sigma: float
    iterations: int


def _round_columns(matrix: FloatArray) -> FloatArray:
    """Round each column to a multiple of a power of two, so that sums of T products are exact."""
    rows = matrix.shape[0]
    bits = (_EXACT_BITS - max(1, math.ceil(math.log2(rows + 1)))) // 2
    largest = np.max(np.abs(matrix), axis=0)
    _, exponent = np.frexp(np.where(largest > 0.0, largest, 1.0))
    scale = np.ldexp(1.0, bits - exponent)
    return np.rint(matrix * scale) / scale


def cholesky_solve(systems: FloatArray, sides: FloatArray) -> FloatArray:
    """Solve A x = b for symmetric positive definite A, element-wise and in fixed order.

    systems: (..., K, K); sides: (..., K). Returns (..., K). No BLAS, so no thread count and no
    vector width can change a bit. Raises NotRidge where A is not positive definite.
    """
    work = np.array(systems, dtype=np.float64)
    size = work.shape[-1]
    x = np.array(sides, dtype=np.float64)
    for j in range(size):
        pivot = work[..., j, j]
        if not np.all(pivot > 0.0):
            raise NotRidge("the ridge system is not positive definite; fit with Stan instead")
        work[..., j:, j] = work[..., j:, j] / np.sqrt(pivot)[..., None]
        x[..., j] = x[..., j] / work[..., j, j]
        below = work[..., j + 1 :, j]
        x[..., j + 1 :] -= below * x[..., j, None]
        work[..., j + 1 :, j + 1 :] -= below[..., :, None] * below[..., None, :]
    for j in range(size - 1, -1, -1):
        x[..., j] = x[..., j] / work[..., j, j]
        x[..., :j] -= work[..., j, :j] * x[..., j, None]
    return x


def _noise(squares: float, rows: int) -> float:
    """The noise scale that maximises the posterior for a given sum of squared residuals."""
    prior = 1.0 / (_NOISE_PRIOR * _NOISE_PRIOR)
    root = math.sqrt(float(rows) * rows + 4.0 * prior * squares)
    return max(_SMALLEST_NOISE, math.sqrt(2.0 * squares / (rows + root)))


def fit_ridge(features: FloatArray, target: FloatArray, scales: FloatArray) -> RidgeFit:
    """The joint MAP of offset, coefficients and noise.

    features: (T, K); target: (T,), Prophet's scaled y; scales: (K,) prior standard deviations.
    """
    rows = target.shape[0]
    design = _round_columns(np.column_stack([np.ones(rows), features]))
    y = _round_columns(target[:, None])[:, 0]
    gram = design.T @ design
    moment = design.T @ y
    total = float(y @ y)
    precision = 1.0 / np.square(np.concatenate([[_OFFSET_PRIOR], scales]))
    diagonal = np.arange(gram.shape[0])
    sigma = _noise(total, rows)
    weights = np.zeros_like(moment)
    iterations = 0
    settled = False
    while not settled and iterations < _MAX_ITERATIONS:
        iterations += 1
        system = gram.copy()
        system[diagonal, diagonal] += sigma * sigma * precision
        weights = cholesky_solve(system, moment)
        # |y - Xw|^2 = y'y - w'X'y - sigma^2 w'Pw at the solution; fsum is exact and order-free.
        explained = math.fsum((weights * moment).tolist())
        shrunk = sigma * sigma * math.fsum((weights * weights * precision).tolist())
        updated = _noise(max(0.0, total - explained - shrunk), rows)
        settled = abs(updated - sigma) <= _TOLERANCE * sigma
        sigma = updated
    return RidgeFit(design, y, gram, moment, precision, weights, sigma, iterations)


def left_out_residuals(fit: RidgeFit, groups: npt.NDArray[np.int64]) -> FloatArray:
    """Residuals of each group of rows under the fit that has never seen that group.

    groups: (T,) a group number per row, negative for rows that are not asked for (their residual
    is NaN). Exact for the given noise scale: each group's sums are taken out of the normal
    equations. Unit: Prophet's scaled y.
    """
    residuals = np.full(fit.target.shape, np.nan)
    names = np.unique(groups[groups >= 0])
    if names.size == 0:
        return residuals
    members = [np.flatnonzero(groups == name) for name in names]
    systems = np.empty((names.size, *fit.gram.shape))
    sides = np.empty((names.size, fit.moment.size))
    for at, rows in enumerate(members):
        part = fit.design[rows]
        systems[at] = fit.gram - part.T @ part
        sides[at] = fit.moment - part.T @ fit.target[rows]
    diagonal = np.arange(fit.gram.shape[0])
    systems[:, diagonal, diagonal] += fit.sigma * fit.sigma * fit.precision
    weights = cholesky_solve(systems, sides)
    for at, rows in enumerate(members):
        residuals[rows] = fit.target[rows] - fit.design[rows] @ weights[at]
    return residuals


class RidgeBackend(IStanBackend):
    """Prophet's backend interface over `fit_ridge`.

    `fit` raises NotRidge for another growth than flat, multiplicative terms, changepoints, and
    options or starting values meant for Stan; `sampling` always does.
    """

    solution: RidgeFit | None = None

    @staticmethod
    def get_type() -> str:
        return "RIDGE"

    def load_model(self) -> Any:
        return None

    def fit(
        self, stan_init: dict[str, Any], stan_data: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        if stan_data["trend_indicator"] != TrendIndicator.FLAT.value:
            raise NotRidge("the closed form needs growth='flat'; fit this model with Stan")
        if np.any(np.asarray(stan_data["s_m"]) != 0):
            raise NotRidge("the closed form needs additive terms only; fit this model with Stan")
        # Prophet passes one dummy changepoint at t = 0 when there is none.
        if np.any(np.asarray(stan_data["t_change"]) != 0.0):
            raise NotRidge("the closed form needs n_changepoints=0; fit this model with Stan")
        if kwargs:
            raise NotRidge(f"the closed form takes no options (got {', '.join(sorted(kwargs))})")
        features = np.asarray(stan_data["X"], dtype=np.float64)
        target = np.asarray(stan_data["y"], dtype=np.float64)
        if not (np.isfinite(features).all() and np.isfinite(target).all()):
            raise NotRidge("the closed form needs finite numbers in every row")
        solution = fit_ridge(features, target, np.asarray(stan_data["sigmas"], dtype=np.float64))
        self.solution = solution
        params: dict[str, Any] = OrderedDict()
        params["k"] = np.zeros((1, 1))
        params["m"] = solution.weights[:1].reshape(1, 1)
        params["delta"] = np.zeros((1, int(stan_data["S"])))
        params["sigma_obs"] = np.array([[solution.sigma]])
        params["beta"] = solution.weights[1:].reshape(1, -1)
        params["trend"] = np.full((1, target.size), solution.weights[0])
        return params

    def sampling(
        self,
        stan_init: dict[str, Any],
        stan_data: dict[str, Any],
        samples: int,
        **kwargs: Any,
    ) -> dict[str, Any]:
        raise NotRidge("the closed form has no samples; set mcmc_samples=0 or use Stan")


class RidgeProphet(Prophet):
    """Prophet with the closed-form backend.

    Prophet's own preparation takes about ten times as long as the closed form: it looks through
    dates and conditions row by row and builds tables that only plots read. For the models that
    this package makes, `preprocess` lays out the same matrix directly; a test holds the two
    together. Every other model is prepared by Prophet itself.
    """

    def _load_stan_backend(self, stan_backend: str | None) -> None:
        self.stan_backend = RidgeBackend()

    def preprocess(self, df: pd.DataFrame, **kwargs: Any) -> ModelInputData:
        """Prophet's scaling and design matrix: history in, what the backend takes out."""
        if not self._is_plain(df):
            return super().preprocess(df, **kwargs)
        target = df["y"].to_numpy(dtype=np.float64)
        stamps = df["ds"].to_numpy()
        # Prophet keeps its history in the order of its clock.
        order = np.argsort(stamps, kind="stable")
        target, stamps = target[order], stamps[order]
        largest = float(np.abs(target).max())
        self.y_min, self.y_scale = 0.0, largest if largest > 0.0 else 1.0
        self.start = pd.Timestamp(stamps[0])
        self.t_scale = pd.Timestamp(stamps[-1]) - self.start
        for name, regressor in self.extra_regressors.items():
            column = df[name].to_numpy(dtype=np.float64)[order]
            if np.ptp(column) > 0.0:
                regressor["mu"], regressor["std"] = float(column.mean()), float(column.std(ddof=1))
        self.history_dates = pd.Series(stamps, name="ds")
        self.changepoints = pd.Series(pd.to_datetime([]), name="ds")
        self.changepoints_t = np.array([0])  # Prophet's dummy changepoint
        self.fit_kwargs = dict(kwargs)
        design = self._design(df, order)
        time = (stamps - stamps[0]) / (stamps[-1] - stamps[0])
        self.history = pd.DataFrame(
            {"ds": stamps, "y": target, "floor": 0.0, "t": time, "y_scaled": target / self.y_scale}
        )
        priors = [
            seasonality["prior_scale"]
            for seasonality in self.seasonalities.values()
            for _ in range(2 * seasonality["fourier_order"])
        ]
        priors += [regressor["prior_scale"] for regressor in self.extra_regressors.values()]
        columns = design.shape[1]
        return ModelInputData(
            T=target.size,
            S=1,
            K=columns,
            tau=self.changepoint_prior_scale,
            trend_indicator=TrendIndicator.FLAT.value,
            y=target / self.y_scale,
            t=time,
            cap=np.zeros(target.size),
            t_change=self.changepoints_t,
            s_a=np.ones(columns),
            s_m=np.zeros(columns),
            X=design,
            sigmas=priors,
        )

    def predict(self, df: pd.DataFrame | None = None, vectorized: bool = True) -> pd.DataFrame:
        """Prophet's own table of components; `point` is all that a forecast needs of it."""
        if self.component_modes is None and self.history is not None and df is not None:
            # What `preprocess` left out. It depends on the columns and not on the rows.
            row = self.setup_dataframe(df.head(1).copy())
            _, _, self.train_component_cols, self.component_modes = (
                self.make_all_seasonality_features(row)
            )
        return super().predict(df, vectorized)

    def point(self, df: pd.DataFrame) -> FloatArray:
        """Prophet's `yhat` of each row of `df`, in the unit of y."""
        weights = self.ridge().weights
        design = self._design(df, np.arange(len(df)))
        return np.asarray((weights[0] + design @ weights[1:]) * float(self.y_scale or 1.0))

    def ridge(self) -> RidgeFit:
        """The solution of the last fit. Raises NotRidge before a fit or on a constant series."""
        backend = self.stan_backend
        if not isinstance(backend, RidgeBackend) or backend.solution is None:
            raise NotRidge("the model has not been fitted in closed form")
        return backend.solution

    def _is_plain(self, df: pd.DataFrame) -> bool:
        """Whether the direct way lays out this model: what `forecasting.model` asks for."""
        auto = (self.yearly_seasonality, self.weekly_seasonality, self.daily_seasonality)
        parts = [*self.seasonalities.values(), *self.extra_regressors.values()]
        columns = [
            *(part["condition_name"] for part in self.seasonalities.values()),
            *self.extra_regressors,
        ]
        return (
            self.growth == "flat"
            and self.scaling == "absmax"
            and self.specified_changepoints is False
            and self.n_changepoints == 0
            and self.holidays is None
            and self.country_holidays is None
            and not any(auto)
            and bool(parts)
            and all(part["mode"] == "additive" for part in parts)
            and all(one["standardize"] is True for one in self.extra_regressors.values())
            and all(column in df for column in ("ds", "y", *filter(None, columns)))
            and df["ds"].dtype.kind == "M"
            and len(df) > 2
            and bool(np.isfinite(df["y"].to_numpy(dtype=np.float64)).all())
        )

    def _design(self, df: pd.DataFrame, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Seasonal and regressor columns of some rows, scaled as in the fit."""
        stamps = df["ds"].to_numpy()[rows]
        days = (stamps - np.datetime64(0, "s")) / np.timedelta64(1, "D")
        waves: dict[tuple[float, int], FloatArray] = {}
        parts: list[FloatArray] = []
        for seasonality in self.seasonalities.values():
            period, terms = seasonality["period"], seasonality["fourier_order"]
            wave = waves.get((period, terms))
            if wave is None:
                wave = np.empty((stamps.size, 2 * terms))
                for term in range(terms):
                    angle = (term + 1) / period * (np.pi * 2 * days)
                    wave[:, 2 * term], wave[:, 2 * term + 1] = np.sin(angle), np.cos(angle)
                waves[period, terms] = wave
            condition = seasonality["condition_name"]
            if condition is not None:
                wave = wave * df[condition].to_numpy(dtype=bool)[rows, None]
            parts.append(wave)
        for name, regressor in self.extra_regressors.items():
            column = df[name].to_numpy(dtype=np.float64)[rows]
            parts.append(((column - regressor["mu"]) / regressor["std"])[:, None])
        return np.hstack(parts)
