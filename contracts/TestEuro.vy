# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Test Euro
@notice A token with 6 decimals and EIP-2612 permit that stands in for a euro on a local chain.
        Its owner mints. On any public chain the settlement token is a real one.
@dev One base unit is one micro euro. The token itself is snekmate's `erc20`.
"""

from snekmate.auth import ownable
from snekmate.tokens import erc20

initializes: ownable
initializes: erc20[ownable := ownable]
exports: (
    erc20.owner,
    erc20.transfer_ownership,
    erc20.name,
    erc20.symbol,
    erc20.decimals,
    erc20.totalSupply,
    erc20.balanceOf,
    erc20.allowance,
    erc20.transfer,
    erc20.transferFrom,
    erc20.approve,
    erc20.mint,
    erc20.is_minter,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# The chain ids of anvil and hardhat (31337) and of geth's and ganache's local chains (1337):
# play money must never appear where it could be taken for money.
ANVIL: constant(uint256) = 31_337
LOCAL: constant(uint256) = 1_337


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__():
    assert chain.id == ANVIL or chain.id == LOCAL, "test euro: not a local chain"
    ownable.__init__()
    # The deployer owns the token and is its minter; both move with `transfer_ownership`.
    erc20.__init__("Test Euro", "tEUR", 6, "Test Euro", "1")
