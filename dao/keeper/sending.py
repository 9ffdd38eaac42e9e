# SPDX-License-Identifier: Apache-2.0
"""How the keeper sends: it asks the contract first, looks at the price of gas, and cuts into runs
what one transaction does not hold. What to send is the duties' business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dao.anvil import TRANSACTION_GAS_LIMIT
from dao.chain import Account, Chain, Contract, ContractReverted, Receipt, is_away
from dao.errors import CheckFailed


class TooLarge(CheckFailed):
    """A step takes more gas than one transaction holds."""


class GasTooDear(CheckFailed):
    """Gas costs more than the keeper may pay."""


@dataclass(frozen=True)
class AskedFirst(Contract):
    """A contract that is asked before anything is sent: what it would refuse costs no gas.

    sent: every receipt is added here.
    """

    max_gas_price: int | None = None
    sent: list[Receipt] = field(default_factory=list)

    def transact(
        self, function: str, *args: Any, sender: Account | None = None, gas: int | None = None
    ) -> Receipt:
        """As Contract's. Raises TooLarge, GasTooDear, or ContractReverted before it is sent."""
        account = sender or self.chain.deployer
        self._ask(function, args, account.address)
        check_gas_price(self.chain, self.max_gas_price)
        receipt = super().transact(function, *args, sender=account, gas=gas)
        self.sent.append(receipt)
        return receipt

    def _ask(self, function: str, args: tuple[Any, ...], sender: str) -> None:
        request = {
            "from": sender,
            "to": self.address,
            "data": "0x" + self.encode(function, *args).hex(),
            "gas": hex(TRANSACTION_GAS_LIMIT),
        }
        try:
            self.chain.rpc("eth_call", request, "latest")
        except CheckFailed as refused:
            if is_away(refused):
                raise
            # Once more without the limit: gives the contract's own reason, or none.
            try:
                self.call(function, *args, sender=sender)
            except ContractReverted as reverted:
                if "outofgas" not in reverted.reason.lower().replace(" ", ""):
                    raise
            raise TooLarge(
                f"{self.name}.{function} takes more than the {TRANSACTION_GAS_LIMIT:,} gas of a "
                "transaction"
            ) from None


def check_gas_price(chain: Chain, most: int | None) -> None:
    """Raises GasTooDear where the network asks more than `most` wei for a unit of gas."""
    if most is None:
        return
    price = int(chain.rpc("eth_gasPrice"), 16)
    if price > most:
        raise GasTooDear(f"gas costs {price / 1e9:,.3f} gwei, the bound is {most / 1e9:,.3f}")


def allows(contract: Contract, function: str, *args: Any, sender: Account) -> bool:
    """Whether the contract would take a call now: asked where the rule is the contract's alone,
    such as what a pause does to a session."""
    try:
        contract.call(function, *args, sender=sender.address)
    except ContractReverted:
        return False
    return True


def in_runs(slots: int, step: Callable[[int], object]) -> None:
    """Take a step until it says None, for all slots at once, or for ever fewer where that takes
    more gas than a transaction holds. Raises TooLarge where a single slot does.

    Asking is free and every run costs the orders and receipts once more: the longest run that fits
    is worth looking for.
    """
    while True:
        try:
            if step(slots) is None:
                return
        except TooLarge:
            if slots == 1:
                raise
            slots = slots * 3 // 4
