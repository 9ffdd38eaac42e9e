# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Delivery adjustments
@notice What becomes of a settlement when a meter takes back a part of what its receipt proved.
        Holds no money; works out who gives back what to whom and tells `EnergyMarket`.
"""

from interfaces import IEnergyMarket
from interfaces import IGridParameters
from interfaces import IMeterRegistry
from modules import delivery_receipts
from modules import session_book


# ---------------------------------------------------------------------------- #
#                                 CONSTANTS                                   #
# ---------------------------------------------------------------------------- #

ASK: constant(uint256) = 1 << 128
PROFILE: constant(uint256) = 2 << 128
MASK_32: constant(uint256) = 2**32 - 1
MASK_48: constant(uint256) = 2**48 - 1
CLEARED: constant(uint256) = 8
SETTLED: constant(uint256) = 16
GATE: constant(uint256) = 80
RATIONED: constant(uint256) = 64
AVAILABLE: constant(uint256) = 72
TOTAL: constant(uint256) = 120
VOLUME: constant(uint256) = 168
NO_PRICE: constant(uint256) = 65_535
SLOT_SECONDS: constant(uint256) = 900
MAX_ROWS: constant(uint256) = 1_024
MAX_ORDERS: constant(uint256) = 512
# The rule in GridParameters that says how long readings may be corrected.
FINALITY: constant(uint256) = 12


# ---------------------------------------------------------------------------- #
#                                  STORAGE                                    #
# ---------------------------------------------------------------------------- #

MARKET: immutable(IEnergyMarket)
PARAMETERS: immutable(IGridParameters)
REGISTRY: immutable(IMeterRegistry)

# meter -> slot -> what it delivered was adjusted
adjusted: public(HashMap[uint256, HashMap[uint256, bool]])


# ---------------------------------------------------------------------------- #
#                                CONSTRUCTOR                                  #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(market: address, parameters: address, registry: address):
    MARKET = IEnergyMarket(market)
    PARAMETERS = IGridParameters(parameters)
    REGISTRY = IMeterRegistry(registry)


# ---------------------------------------------------------------------------- #
#                                  CORRECTIONS                                 #
# ---------------------------------------------------------------------------- #

@external
def adjust(
    zone: uint256,
    first_slot: uint256,
    slot: uint256,
    meter: uint256,
    receipt: delivery_receipts.Delivery,
    correction: delivery_receipts.Delivery,
    pages: DynArray[uint256, session_book.MAX_PAGE_WORDS],
    rows: DynArray[uint256, MAX_ROWS],
):
    """
    @notice A meter takes back, after settlement, a part of what its receipt proved for a slot.
            The seller gives the slot's price for it back, from the balance that its account
            still holds, and the slot's buyers share that as they share penalties. Until the
            session's readings are final, and once for a meter and slot.
    @dev Only downwards. Buyers have their money for what was not proved in time, and nothing is
         held from which a late proof could be paid. Where the zone's export cut the delivery,
         the seller was paid for less than its receipt proved: its device should take back less.
    @param slot The slot, absolute.
    @param receipt What the device signed for the session as `DeliveryReceipt`.
    @param correction What it signs now as `DeliveryCorrection`, in the same form.
    @param pages Words in each page of the book, a byte a page, lowest first.
    @param rows All words of the book, in order of arrival.
    """
    session: uint256 = 0
    book: uint256 = 0
    session, book = staticcall MARKET.session_words(zone, first_slot)
    slots: uint256 = session & 255
    assert slot >= first_slot, "adjustments: slots out of range"
    at: uint256 = slot - first_slot
    assert at < (session >> SETTLED) & 255, "adjustments: slot is not settled"
    clearing: uint256 = (staticcall MARKET.clearing_words(zone, slot, 1))[0]
    assert (
        at < (session >> CLEARED) & 255 and clearing & 65_535 != NO_PRICE
    ), "adjustments: nothing traded here"
    assert (
        block.timestamp
        <= (first_slot + slots) * SLOT_SECONDS
        + staticcall PARAMETERS.value_at(FINALITY, session >> GATE)
    ), "adjustments: readings are final"
    assert not self.adjusted[meter][slot], "adjustments: slot was adjusted"
    self.adjusted[meter][slot] = True
    sizes: uint256 = 36 + convert(slice(msg.data, 196, 32), uint256)
    begin: uint256 = 36 + convert(slice(msg.data, 228, 32), uint256)
    assert (
        session_book._fold(sizes, sizes + 32 * len(pages), begin, begin + 32 * len(rows))
        == book & session_book.HASH_MASK
    ), "adjustments: not the session's orders"
    delivery_receipts._check_signed(
        MARKET.address, REGISTRY, delivery_receipts.RECEIPT_TYPE, meter, first_slot, slots, receipt
    )
    delivery_receipts._check_signed(
        MARKET.address, REGISTRY, delivery_receipts.CORRECTION_TYPE, meter, first_slot, slots, correction
    )

    # What the clearing gave the meter's asks, and to whom they sold: account << 32 | Wh.
    sold: uint256 = 0
    buyers: DynArray[uint256, MAX_ORDERS] = []
    edge: uint256 = session_book._edges(
        clearing & 65_535,
        (clearing >> 16) & 65_535,
        (clearing >> 32) & 65_535,
        (clearing >> 48) & 65_535,
    )
    available: uint256 = (clearing >> AVAILABLE) & MASK_48
    total: uint256 = (clearing >> TOTAL) & MASK_48
    # Energy at the price on the rationed side so far.
    before: uint256 = 0
    header: uint256 = 0
    words: uint256 = 0
    place: uint256 = 0
    for row: uint256 in rows:
        wh: uint256 = 0
        if words == 0:
            header = row
            if row & PROFILE != 0:
                words = session_book._profile_words(row)
                place = (row >> 80) & 240
                continue
            if unsafe_sub(at, (row >> 80) & 255) < (row >> 72) & 255:
                wh = (row >> 88) & 65_535
        else:
            words -= 1
            if unsafe_sub(at, place) < 16:
                wh = (row >> ((at - place) << 4)) & 65_535
            place += 16
        # Without energy in the slot an order takes no part in it, not even at the price.
        if wh == 0:
            continue
        limit: uint256 = (header >> 104) & 65_535
        is_ask: bool = header & ASK != 0
        at_price: bool = False
        if is_ask:
            if limit >= edge & MASK_32:
                continue
            at_price = limit >= (edge >> session_book.ASK_UNDER) & MASK_32
        else:
            if limit < (edge >> session_book.BID_AT) & MASK_32:
                continue
            at_price = limit < edge >> session_book.BID_OVER
        if at_price and is_ask == ((clearing >> RATIONED) & 1 == 1):
            after: uint256 = before + wh
            wh = after * available // total - before * available // total
            before = after
        if not is_ask:
            buyers.append((header >> 224 << 32) | wh)
        elif header >> 224 == meter:
            sold += wh

    lane: uint256 = (at & 15) << 4
    proved: uint256 = min(sold, (receipt.exports[at >> 4] >> lane) & 65_535)
    kept: uint256 = min(sold, (correction.exports[at >> 4] >> lane) & 65_535)
    assert kept < proved, "adjustments: nothing to take back"
    # The collateral that is still held is the account's balance; an owner may have withdrawn it.
    amount: uint256 = min(
        (proved - kept) * (clearing & 65_535), (staticcall MARKET.account(meter))[1]
    )
    bought: uint256 = 0
    credits: DynArray[uint256, MAX_ORDERS] = []
    for buyer: uint256 in buyers:
        until: uint256 = bought + (buyer & MASK_32)
        share: uint256 = (
            until * amount // (clearing >> VOLUME) - bought * amount // (clearing >> VOLUME)
        )
        bought = until
        if share != 0:
            credits.append((buyer >> 32 << 224) | share)
    extcall MARKET.record_adjustment(zone, slot, meter, proved - kept, amount, credits)
