# SPDX-License-Identifier: Apache-2.0
"""All tables of a dossier: those that follow from the chain, those of the operator, the figures.

Pure: the same events, transactions and operator's part give the same tables. Export and verify
both come through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dao.audit.decisions import decision_tables
from dao.audit.energy import energy_tables
from dao.audit.figures import figure_table
from dao.audit.market import Replay, market_tables, replay, sessions_of
from dao.audit.records import anomaly_table, forecast_tables, gas_table, money_table
from dao.audit.scope import Events, Scope
from dao.audit.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

OPERATOR_TABLES = ("contents", "quality", "edits", "grid", "groups", "promises")
"""What only who has the lake, the relay's store and the grid's model can say."""
DERIVED = ("figures", "changes")


@dataclass(frozen=True)
class OperatorPart:
    """The operator's tables by name, and the bills' leaves (`bills`). A table that is not there
    is empty in the dossier."""

    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    bills: pa.Table | None = None


@dataclass(frozen=True, eq=False)
class ChainPart:
    """What follows from the chain alone: tables, and each session computed again."""

    tables: Mapping[str, pa.Table]
    replays: tuple[Replay, ...]

    @property
    def faults(self) -> list[str]:
        """Where the chain's outcome is not what its input comes to."""
        return [fault for one in self.replays for fault in one.faults]


def chain_part(scope: Scope, events: Events, spent: Mapping[str, tuple[int, int]]) -> ChainPart:
    """spent: gas and price in wei of the transactions (`records.counted_transactions`)."""
    period = scope.period
    replays = [replay(session, events) for session in sessions_of(events, period)]
    return ChainPart(
        {
            **energy_tables(events, period),
            **market_tables(replays, period),
            **decision_tables(events, scope),
            **forecast_tables(events, period),
            "anomalies": anomaly_table(events, replays, scope),
            "money": money_table(events),
            "gas": gas_table(events, period, spent),
        },
        tuple(replays),
    )


def all_tables(
    scope: Scope, chain: ChainPart, operator: OperatorPart, changes: pa.Table | None = None
) -> dict[str, pa.Table]:
    """Every table, in the order of the list."""
    found: dict[str, pa.Table] = dict(chain.tables)
    for name in OPERATOR_TABLES:
        given = operator.tables.get(name)
        found[name] = TABLES[name].of_rows([]) if given is None else given
    found["changes"] = TABLES["changes"].of_rows([]) if changes is None else changes
    found["figures"] = figure_table(found, scope.tariffs)
    return {name: found[name] for name in TABLES}
