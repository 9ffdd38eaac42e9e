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

     A batch may be corrected once, whole, shortly before its totals become final:

         first_slot ... end |------ finality / 2 ------|-- correct --| final
                                                        at the earliest score of a forecast

     Of the first version the root stays, and the totals in the event; views tell the newest.
     One word per batch beside its roots:

         batch     leaves:64 @48 | homes:32 @16 | slots:8 @8 | version:8 @0
"""

from snekmate.auth import ownable
from interfaces import IGridParameters
from interfaces import IReadingLedger

implements: IReadingLedger
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
DAY: constant(uint256) = 86_400
SLOTS_PER_DAY: constant(uint256) = 96
# A batch is at most a day of quarter-hours.
MAX_SLOTS: constant(uint256) = 96
# Four slots of 64 bits share a word.
MAX_WORDS: constant(uint256) = 24
# A sum over fewer homes says too much about each of them (docs/privacy.md).
MIN_HOMES: constant(uint256) = 15
# The key of the finality in `GridParameters`.
FINALITY: constant(uint256) = 12
# As in `ForecastRegistry`: so long before a day its forecast may be committed, and the finality of
# that moment says when it is scored.
MAX_AHEAD: constant(uint256) = 2 * DAY

VERSIONS: constant(uint256) = 2


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


# The second version of a batch, in place of the first.
event BatchCorrected:
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


PARAMETERS: immutable(IGridParameters)

collectors: public(HashMap[uint256, address])
committed_until: public(HashMap[uint256, uint256])
# zone -> first slot -> batch word; -> root of each version
_batches: HashMap[uint256, HashMap[uint256, uint256]]
_roots: HashMap[uint256, HashMap[uint256, bytes32[VERSIONS]]]
# zone -> slot // 4 -> four totals
_totals: HashMap[uint256, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(parameters: address):
    """
    @param parameters The `GridParameters` with the finality.
    """
    ownable.__init__()
    PARAMETERS = IGridParameters(parameters)


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
    # Delivery that has not ended cannot have been measured.
    assert (first_slot + slots) * SLOT_SECONDS <= block.timestamp, "ledger: batch is not over"
    until: uint256 = self.committed_until[zone]
    assert until == 0 or until == first_slot, "ledger: batch does not follow the last"
    self.committed_until[zone] = first_slot + slots
    self._publish(zone, first_slot, slots, 1, root, homes, leaves, totals)
    log BatchCommitted(
        zone=zone,
        first_slot=first_slot,
        slots=slots,
        root=root,
        homes=homes,
        leaves=leaves,
        totals=totals,
    )


@external
def correct(
    zone: uint256,
    first_slot: uint256,
    root: bytes32,
    homes: uint256,
    leaves: uint256,
    totals: DynArray[uint256, MAX_WORDS],
):
    """
    @notice Publishes the second and last version of a batch, within its correction window. The
            zone's collector only.
    @param first_slot The first slot of the batch.
    @param root The Merkle root over all leaves of the batch, corrected or not.
    @param homes How many homes stand behind the totals; at least 15.
    @param leaves How many leaves the tree has.
    @param totals All totals of the batch, packed as in `commit`.
    """
    assert msg.sender == self.collectors[zone], "ledger: caller is not the zone's collector"
    batch: uint256 = self._batches[zone][first_slot]
    assert batch != 0, "ledger: no such batch"
    assert batch & 255 == 1, "ledger: batch was corrected"
    slots: uint256 = (batch >> 8) & 255
    opens: uint256 = 0
    closes: uint256 = 0
    opens, closes = self._correction_window(first_slot, slots)
    assert block.timestamp >= opens, "ledger: too early to correct"
    assert block.timestamp < closes, "ledger: totals are final"
    self._publish(zone, first_slot, slots, 2, root, homes, leaves, totals)
    log BatchCorrected(
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
    @return Per slot `export << 32 | net` of the newest version, both in Wh; net is an int32 in
            two's complement, positive where the zone draws energy. Slots outside the ledger read
            as zero: compare with `committed_until` first.
    """
    result: DynArray[uint256, MAX_SLOTS] = []
    word: uint256 = 0
    for i: uint256 in range(slots, bound=MAX_SLOTS):
        # Unchecked: a slot that wraps around is long past, and reads as zero.
        slot: uint256 = unsafe_add(first_slot, i)
        if slot & 3 == 0:
            word = self._totals[zone][slot >> 2]
        elif i == 0:
            word = self._totals[zone][slot >> 2] >> ((slot & 3) << 6)
        result.append(word & (2**64 - 1))
        word = word >> 64
    return result


@view
@external
def homes_of(zone: uint256, slot: uint256) -> uint256:
    """
    @return The number of homes behind the newest totals of the slot; 0 where nothing is committed.
    """
    if slot >= self.committed_until[zone]:
        return 0
    # Batches start on a multiple of 4 and are at most 96 slots long, so the one that
    # holds the slot begins within the last 24 words.
    start: uint256 = slot - slot % 4
    for i: uint256 in range(MAX_WORDS):
        batch: uint256 = self._batches[zone][start - 4 * i]
        if batch != 0:
            return (batch >> 16) & (2**32 - 1)
    return 0


@view
@external
def batches(zone: uint256, first_slot: uint256) -> Batch:
    """
    @return The newest version of the batch that starts with the slot; zeros where none does.
    """
    batch: uint256 = self._batches[zone][first_slot]
    root: bytes32 = empty(bytes32)
    if batch != 0:
        root = self._roots[zone][first_slot][(batch & 255) - 1]
    return Batch(
        root=root,
        slots=(batch >> 8) & 255,
        homes=(batch >> 16) & (2**32 - 1),
        leaves=batch >> 48,
    )


@view
@external
def version_of(zone: uint256, first_slot: uint256) -> uint256:
    """
    @return 1 for a batch as it was committed, 2 for a corrected one, 0 where no batch starts.
    """
    return self._batches[zone][first_slot] & 255


@view
@external
def root_of(zone: uint256, first_slot: uint256, version: uint256) -> bytes32:
    """
    @return The Merkle root of version 1 or 2 of a batch; zero where there is none.
    """
    if version == 0 or version > VERSIONS:
        return empty(bytes32)
    return self._roots[zone][first_slot][version - 1]


@view
@external
def correction_window(zone: uint256, first_slot: uint256) -> (uint256, uint256):
    """
    @notice When a batch can be corrected, whether it was or not.
    @return Unix times: from the first one on, and before the second.
    """
    batch: uint256 = self._batches[zone][first_slot]
    assert batch != 0, "ledger: no such batch"
    return self._correction_window(first_slot, (batch >> 8) & 255)


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _publish(
    zone: uint256,
    first_slot: uint256,
    slots: uint256,
    version: uint256,
    root: bytes32,
    homes: uint256,
    leaves: uint256,
    totals: DynArray[uint256, MAX_WORDS],
):
    assert len(totals) == slots // 4, "ledger: totals do not match the slots"
    assert root != empty(bytes32), "ledger: root is zero"
    assert homes >= MIN_HOMES, "ledger: group too small to publish"
    assert homes < 2**32 and leaves < 2**64, "ledger: count out of range"
    self._batches[zone][first_slot] = (leaves << 48) | (homes << 16) | (slots << 8) | version
    self._roots[zone][first_slot][version - 1] = root
    word: uint256 = first_slot // 4
    for total: uint256 in totals:
        self._totals[zone][word] = total
        word += 1


@view
@internal
def _correction_window(first_slot: uint256, slots: uint256) -> (uint256, uint256):
    """
    @dev A forecast is scored once its day and the finality that stood when it was committed are
         over. That moment lies within MAX_AHEAD before the day. So the lowest finality since then
         ends the window before any score, whatever votes came in between; and where a batch
         reaches into the next day, the first of its days counts.
    """
    first_day: uint256 = first_slot // SLOTS_PER_DAY * DAY
    last_day: uint256 = (first_slot + slots - 1) // SLOTS_PER_DAY * DAY
    finality: uint256 = staticcall PARAMETERS.lowest_value(
        FINALITY, first_day - MAX_AHEAD, last_day
    )
    end: uint256 = min((first_slot + slots) * SLOT_SECONDS, first_day + DAY)
    return end + finality // 2, end + finality
