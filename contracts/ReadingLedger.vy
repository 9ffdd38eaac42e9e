# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Reading ledger
@notice Per zone an unbroken run of batches. A batch is the Merkle root of salted leaves, one
        per meter and slot, with the zone's totals per slot. No reading stands here in clear,
        and totals appear only for groups large enough to hide a home.

           zone  |--- batch ---|--- batch ---|--- batch ---|
                 ^ first slot                              ^ committed_until

@dev A zone's first batch fixes where its ledger begins. Every later one starts where the
     last ended, so no slot is ever missing or committed twice.
"""

from snekmate.auth import ownable
from interfaces import IReadingLedger

implements: IReadingLedger
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
# A batch is at most a day of quarter-hours.
MAX_SLOTS: constant(uint256) = 96
# Four slots of 64 bits share a word.
MAX_WORDS: constant(uint256) = 24
# A sum over fewer homes says too much about each of them (docs/privacy.md).
MIN_HOMES: constant(uint256) = 15


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event CollectorChanged:
    zone: indexed(uint256)
    collector: indexed(address)


event BatchCommitted:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    slots: uint256
    root: bytes32
    homes: uint256
    leaves: uint256
    totals: DynArray[uint256, MAX_WORDS]


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Batch:
    root: bytes32
    slots: uint256
    homes: uint256
    leaves: uint256


collectors: public(HashMap[uint256, address])
committed_until: public(HashMap[uint256, uint256])
# zone -> first slot -> batch
batches: public(HashMap[uint256, HashMap[uint256, Batch]])
# zone -> slot // 4 -> four totals
_totals: HashMap[uint256, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__():
    ownable.__init__()


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def set_collector(zone: uint256, collector: address):
    """
    @notice Appoints the collector of a zone; the zero address leaves the office empty.
    """
    ownable._check_owner()
    self.collectors[zone] = collector
    log CollectorChanged(zone=zone, collector=collector)


@external
def commit(
    zone: uint256,
    first_slot: uint256,
    slots: uint256,
    root: bytes32,
    homes: uint256,
    leaves: uint256,
    totals: DynArray[uint256, MAX_WORDS],
):
    """
    @notice Commits the next batch of a zone.
    @param first_slot The first slot (unix seconds // 900); a multiple of 4.
    @param slots How many slots, a multiple of 4 up to 96, all of them in the past.
    @param root The Merkle root over the batch's salted leaves.
    @param homes How many homes stand behind the totals; at least 15.
    @param leaves How many leaves the tree has.
    @param totals Four slots a word, slot i at bit 64 * (i % 4): net Wh as int32 in two's
           complement in the low half, export Wh in the high half.
    """
    assert msg.sender == self.collectors[zone], "ledger: caller is not the zone's collector"
    assert slots != 0 and slots <= MAX_SLOTS, "ledger: slots out of range"
    assert first_slot % 4 == 0 and slots % 4 == 0, "ledger: batch is not on the hour"
    assert len(totals) == slots // 4, "ledger: totals do not match the slots"
    assert root != empty(bytes32), "ledger: root is zero"
    assert homes >= MIN_HOMES, "ledger: group too small to publish"
    # Delivery that has not ended cannot have been measured.
    assert (first_slot + slots) * SLOT_SECONDS <= block.timestamp, "ledger: batch is not over"
    until: uint256 = self.committed_until[zone]
    assert until == 0 or until == first_slot, "ledger: batch does not follow the last"

    self.committed_until[zone] = first_slot + slots
    self.batches[zone][first_slot] = Batch(root=root, slots=slots, homes=homes, leaves=leaves)
    word: uint256 = first_slot // 4
    for total: uint256 in totals:
        self._totals[zone][word] = total
        word += 1
    log BatchCommitted(
        zone=zone,
        first_slot=first_slot,
        slots=slots,
        root=root,
        homes=homes,
        leaves=leaves,
        totals=totals,
    )


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def totals(zone: uint256, first_slot: uint256, slots: uint256) -> DynArray[uint256, MAX_SLOTS]:
    """
    @return Per slot `export << 32 | net`, both in Wh; net is an int32 in two's complement,
            positive where the zone draws energy. Slots outside the ledger read as zero:
            compare with `committed_until` first.
    """
    result: DynArray[uint256, MAX_SLOTS] = []
    word: uint256 = 0
    for i: uint256 in range(slots, bound=MAX_SLOTS):
        slot: uint256 = first_slot + i
        if i == 0 or slot % 4 == 0:
            word = self._totals[zone][slot // 4]
        result.append((word >> (64 * (slot % 4))) & (2**64 - 1))
    return result


@view
@external
def homes_of(zone: uint256, slot: uint256) -> uint256:
    """
    @return The number of homes behind the totals of the slot; 0 where nothing is committed.
    """
    if slot >= self.committed_until[zone]:
        return 0
    # Batches start on a multiple of 4 and are at most 96 slots long, so the one that
    # holds the slot begins within the last 24 words.
    start: uint256 = slot - slot % 4
    for i: uint256 in range(MAX_WORDS):
        slots: uint256 = self.batches[zone][start - 4 * i].slots
        if slots != 0:
            return self.batches[zone][start - 4 * i].homes
    return 0
