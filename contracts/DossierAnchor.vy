# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Dossier anchor
@notice Where the root of a published dossier stands: what the zone's collector said about a
        period, and when. A dossier is not changed, it is corrected by a later one, in the open.

           period  root 1 <--- corrects --- root 2 <--- corrects --- root 3 = latest

@dev Holds no money, has no owner and no office of its own. The collector answers for the readings
     behind a dossier already, so nobody else can take its place or stand in its way. Whoever was
     collector then stays on record with each root.

     One word per root beside its period:

         publisher:160 @96 | published at:64 @32 | slots:32 @0
"""

from interfaces import IReadingLedger


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# A leap year of quarter-hours: the longest period that one dossier speaks of.
MAX_SLOTS: constant(uint256) = 366 * 96


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event DossierPublished:
    zone: indexed(uint256)
    root: indexed(bytes32)
    publisher: indexed(address)
    first_slot: uint256
    slots: uint256
    corrects: bytes32


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Dossier:
    zone: uint256
    first_slot: uint256
    slots: uint256
    publisher: address
    published_at: uint256
    corrects: bytes32
    corrected_by: bytes32


LEDGER: immutable(IReadingLedger)

_words: HashMap[bytes32, uint256]
# root -> zone << 64 | first slot
_periods: HashMap[bytes32, uint256]
_corrects: HashMap[bytes32, bytes32]
_corrected_by: HashMap[bytes32, bytes32]
# zone -> first slot -> slots -> the newest root
latest: public(HashMap[uint256, HashMap[uint256, HashMap[uint256, bytes32]]])


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(ledger: address):
    """
    @param ledger The `ReadingLedger` that says who collects a zone's readings.
    """
    LEDGER = IReadingLedger(ledger)


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def publish(zone: uint256, first_slot: uint256, slots: uint256, root: bytes32, corrects: bytes32):
    """
    @notice Puts a dossier's root on record. The zone's collector only.
    @param first_slot The first slot of the period (unix seconds // 900).
    @param slots How many slots, all of them committed to the ledger.
    @param root The root of the dossier's manifest.
    @param corrects The root that stands for this period now; zero where none does.
    """
    assert msg.sender == staticcall LEDGER.collectors(zone), "anchor: caller is not the zone's collector"
    assert slots != 0 and slots <= MAX_SLOTS, "anchor: slots out of range"
    assert first_slot + slots <= staticcall LEDGER.committed_until(zone), "anchor: period is open"
    assert root != empty(bytes32), "anchor: root is zero"
    assert self._words[root] == 0, "anchor: root was published"
    # So a second story about a period always names the first.
    assert corrects == self.latest[zone][first_slot][slots], "anchor: corrects another dossier"
    self._words[root] = (
        (convert(msg.sender, uint256) << 96) | (block.timestamp << 32) | slots
    )
    self._periods[root] = (zone << 64) | first_slot
    self.latest[zone][first_slot][slots] = root
    if corrects != empty(bytes32):
        self._corrects[root] = corrects
        self._corrected_by[corrects] = root
    log DossierPublished(
        zone=zone,
        root=root,
        publisher=msg.sender,
        first_slot=first_slot,
        slots=slots,
        corrects=corrects,
    )


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def dossier(root: bytes32) -> Dossier:
    """
    @return What was published under the root; zeros where nothing was.
    """
    word: uint256 = self._words[root]
    period: uint256 = self._periods[root]
    return Dossier(
        zone=period >> 64,
        first_slot=period & (2**64 - 1),
        slots=word & (2**32 - 1),
        publisher=convert(word >> 96, address),
        published_at=(word >> 32) & (2**64 - 1),
        corrects=self._corrects[root],
        corrected_by=self._corrected_by[root],
    )
