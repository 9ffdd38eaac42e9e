# SPDX-License-Identifier: Apache-2.0
"""All kinds of requests that there are."""

from __future__ import annotations

from dao.relay.market_requests import Deposit, MandateEnd, MandateGrant, Revocation, Withdrawal
from dao.relay.request_store import Kind
from dao.relay.requests import Rule
from dao.relay.voting_requests import Ballot, Delegation, Objection

RULES: dict[Kind, Rule] = {
    rule.kind: rule
    for rule in (
        Withdrawal(),
        Revocation(),
        MandateGrant(),
        MandateEnd(),
        Deposit(),
        Ballot(),
        Delegation(),
        Objection(),
    )
}
