# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Delivery receipts
@notice What a meter's device signs about a session, under the market's EIP-712 domain. Without
        state: shared by the contracts that settle and adjust.
"""

from interfaces import IMeterRegistry


# ---------------------------------------------------------------------------- #
#                                 CONSTANTS                                   #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("GridCommons EnergyMarket")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
RECEIPT_TYPE: constant(bytes32) = keccak256(
    "DeliveryReceipt(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
)
CORRECTION_TYPE: constant(bytes32) = keccak256(
    "DeliveryCorrection(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
)
# Half of the order of secp256k1: above it a signature is the malleable twin of another.
MAX_S: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
LOW_255: constant(uint256) = 2**255 - 1


struct Delivery:
    # A meter's export per slot of the session, 16 values of 16 bits a word.
    exports: DynArray[uint256, 6]
    # The signature, `vs` with the parity in its highest bit (EIP-2098).
    r: uint256
    vs: uint256


# ---------------------------------------------------------------------------- #
#                                  INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@view
@internal
def _check_signed(
    market: address,
    registry: IMeterRegistry,
    type_hash: bytes32,
    meter: uint256,
    first_slot: uint256,
    slots: uint256,
    delivery: Delivery,
):
    """
    @notice The meter's device signed the delivery, with the key valid in the session's last
            second.
    """
    end: uint256 = (first_slot + slots) * SLOT_SECONDS
    # Before the end the key may still change.
    assert block.timestamp >= end, "receipts: delivery is not over"
    assert len(delivery.exports) == (slots + 15) // 16, "receipts: receipt is cut off"
    encoded: Bytes[256] = abi_encode(delivery.exports)
    digest: bytes32 = keccak256(
        concat(
            self._prefix(market),
            keccak256(
                abi_encode(
                    type_hash,
                    meter,
                    first_slot,
                    slots,
                    # abi_encode puts the offset and the length first.
                    keccak256(slice(encoded, 64, 32 * len(delivery.exports))),
                )
            ),
        )
    )
    assert delivery.vs & LOW_255 <= MAX_S, "receipts: not the device's receipt"
    signer: address = ecrecover(
        digest, 27 + (delivery.vs >> 255), delivery.r, delivery.vs & LOW_255
    )
    # Where no key is in force the device is zero, as is a failed recovery.
    assert signer != empty(address) and signer == staticcall registry.device_at(
        meter, end - 1
    ), "receipts: not the device's receipt"


@view
@internal
def _prefix(market: address) -> Bytes[34]:
    """
    @return What every digest of the market's EIP-712 domain begins with.
    """
    return concat(
        b"\x19\x01",
        keccak256(
            abi_encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain.id, market)
        ),
    )
