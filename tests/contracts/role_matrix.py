# SPDX-License-Identifier: Apache-2.0
"""Who may call what: every function of every contract that can change something.

Data, and how docs/governance.md writes it as a table. test_role_matrix.py proves it on a whole
deployment.
"""

from __future__ import annotations

from collections.abc import Mapping

TIMELOCK = "timelock"
GOVERNOR = "governor"
REGISTRAR = "registrar"
COLLECTOR = "collector"
FORECASTER = "forecaster"
GUARDIAN = "guardian"
MEMBER = "member"
PROPOSER = "proposer"
ACCOUNT_OWNER = "account owner"
BOND_OWNER = "bond owner"
AUCTION = "auction"
ADJUSTMENTS = "adjustments"
ANYONE = "anyone"
NOBODY = "nobody"
ROLES = (
    TIMELOCK,
    GOVERNOR,
    REGISTRAR,
    COLLECTOR,
    FORECASTER,
    GUARDIAN,
    MEMBER,
    PROPOSER,
    ACCOUNT_OWNER,
    BOND_OWNER,
    AUCTION,
    ADJUSTMENTS,
    ANYONE,
    NOBODY,
)
"""In the order of the table. Anyone: with the caller's own money, or carrying what somebody else
signed, or doing what is due whoever does it. Nobody: done once at deployment, and never again."""

Matrix = Mapping[str, Mapping[str, frozenset[str]]]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MATRIX: Matrix = {
    "GridTimelock": {
        TIMELOCK: _names("grantRole revokeRole renounceRole updateDelay"),
        GOVERNOR: _names("scheduleBatch executeBatch cancel"),
        ANYONE: _names("__default__"),
    },
    "GridGovernor": {
        TIMELOCK: _names("transfer_ownership setLane setGuardian"),
        FORECASTER: _names("proposeBalancing proposeUnderPolicy"),
        GUARDIAN: _names("cancel"),
        MEMBER: _names("propose proposeBalancing proposeUnderPolicy castVote castVoteWithReason"),
        PROPOSER: _names("cancel"),
        BOND_OWNER: _names("withdrawBond"),
        ANYONE: _names("depositBond releaseBond castVoteBySig castBallots queue execute"),
    },
    "GridParameters": {
        TIMELOCK: _names(
            "transfer_ownership define define_batch set_value open_window open_windows"
        ),
    },
    "StandingPolicies": {
        TIMELOCK: _names("transfer_ownership set_governor adopt end"),
        GOVERNOR: _names("use"),
    },
    "Membership": {
        TIMELOCK: _names("transfer_ownership set_registrar cancel_announcements"),
        REGISTRAR: _names("announce_admissions announce_removals cancel_announcements"),
        MEMBER: _names("delegate"),
        ANYONE: _names("complete delegateBySig"),
    },
    "ForecastRegistry": {
        TIMELOCK: _names(
            "transfer_ownership set_forecaster set_minimum_bond set_governor decide_dispute"
        ),
        GOVERNOR: _names("use_allowance"),
        FORECASTER: _names("deposit_bond commit reveal"),
        MEMBER: _names("open_dispute"),
        BOND_OWNER: _names("announce_withdrawal withdraw_bond"),
        ANYONE: _names("fund_rewards score miss close_dispute"),
    },
    "Treasury": {
        TIMELOCK: _names(
            "transfer_ownership set_governor set_budget pay grant release cancel_grant recurring"
            " end_recurring"
        ),
        ANYONE: _names("submit_evidence lapse pay_due"),
    },
    "MeterRegistry": {
        TIMELOCK: _names("transfer_ownership set_registrar"),
        REGISTRAR: _names("register_batch rotate_key suspend_key"),
        ANYONE: _names("report_conflict rotate_key_signed"),
    },
    "ReadingLedger": {
        TIMELOCK: _names("transfer_ownership set_collector"),
        COLLECTOR: _names("commit correct"),
    },
    "EnergyMarket": {
        TIMELOCK: _names("transfer_ownership set_treasury set_guardian"),
        GUARDIAN: _names("pause"),
        ACCOUNT_OWNER: _names("withdraw revoke grant_mandate end_mandate"),
        AUCTION: _names("record_clearing record_settlement"),
        ADJUSTMENTS: _names("record_adjustment"),
        ANYONE: _names(
            "open_accounts deposit deposit_with_permit withdraw_signed revoke_signed"
            " grant_mandate_signed end_mandate_signed post void abandon collect_fees"
        ),
        NOBODY: _names("set_auction"),
    },
    "UniformPriceAuction": {ANYONE: _names("clear lodge_receipt settle")},
    "DeliveryAdjustments": {ANYONE: _names("adjust")},
    "DossierAnchor": {COLLECTOR: _names("publish")},
    "TestEuro": {
        TIMELOCK: _names("transfer_ownership mint"),
        ANYONE: _names("transfer transferFrom approve permit"),
    },
}
"""Contract -> role -> functions. Overloads of a name are one function."""


def roles_of(contract: str, function: str) -> tuple[str, ...]:
    """Who may call the function; empty where the matrix does not know it."""
    return tuple(role for role, functions in MATRIX[contract].items() if function in functions)


def is_open(contract: str, function: str) -> bool:
    """Whether anyone may call it."""
    return ANYONE in roles_of(contract, function)


def as_table(matrix: Matrix = MATRIX) -> str:
    """The matrix in Markdown: a row for each contract and role."""
    rows = ["| contract | who | may call |", "|---|---|---|"]
    for contract, roles in matrix.items():
        for role in ROLES:
            if role in roles:
                functions = ", ".join(f"`{function}`" for function in sorted(roles[role]))
                rows.append(f"| `{contract}` | {role} | {functions} |")
    return "\n".join(rows) + "\n"


def from_table(text: str) -> Matrix:
    """The matrix that a Markdown document contains; empty where it contains none.

    Its table is the one that begins with the head row of `as_table`.
    """
    _, _, rest = text.partition("| contract | who | may call |\n|---|---|---|\n")
    found: dict[str, dict[str, frozenset[str]]] = {}
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        contract, role, functions = (cell.strip() for cell in line.strip("|").split("|"))
        roles = found.setdefault(contract.strip("`"), {})
        assert role not in roles, f"two rows for {contract} and {role}"
        roles[role] = frozenset(part.strip(" `") for part in functions.split(","))
    return found


if __name__ == "__main__":
    print(as_table(), end="")
