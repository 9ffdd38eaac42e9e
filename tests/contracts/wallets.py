# SPDX-License-Identifier: Apache-2.0
"""Contract wallets that more than one test needs; those with a trick of their own stay there."""

# Agrees to what one key signs.
SIGNER_WALLET = """
# pragma version ~=0.4.3
signer: address

@deploy
def __init__(signer: address):
    self.signer = signer

@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    assert len(signature) == 65
    assert self.signer == ecrecover(
        digest,
        convert(slice(signature, 64, 1), uint256),
        convert(slice(signature, 0, 32), uint256),
        convert(slice(signature, 32, 32), uint256),
    )
    return 0x1626ba7e
"""
