# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Uniform price auction
@notice What a session's book comes to: one price per slot, and what each order is paid once the
        meters have spoken. Holds no money and no orders; it reads them from `EnergyMarket` and
        tells it the outcome. Anyone may call, and nobody decides anything by calling.

@dev Write D>p, D>=p for the bid energy above, and at or above, a price p, and S<p, S<=p for the
     ask energy below, and at or below it, all at effective limits. The price p clears the book
     exactly when

         max(D>p, S<p) <= min(D>=p, S<=p)

     The prices that clear are an interval. It reaches down to the highest limit under p if
     D>=p == S<p, and up to the lowest limit over p if D>p == S<=p; else p is its end. The
     canonical price is the midpoint, rounded down. So four sums and, rarely, two neighbours tell
     whether a claimed price is the one (docs/market.md has the proof).

     A slot without trade is claimed with a witness w: no bid at or above w, no ask below it.

     Loops run over the book's words, not its orders: a header says how many profile words follow.
     Whoever brings the words also says how they were cut into pages; only the right words in the
     right pages arrive at the book's hash.
"""

from interfaces import IEnergyMarket
from interfaces import IGridParameters
from interfaces import IMeterRegistry
from interfaces import IReadingLedger
from modules import delivery_receipts
from modules import session_book


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
MAX_SLOTS: constant(uint256) = 96
# As the market bounds a book; two entries of a settlement share a word.
MAX_ORDERS: constant(uint256) = 512
MAX_ENTRY_WORDS: constant(uint256) = 256
MAX_ROWS: constant(uint256) = 1_024
# A byte says how long a page is: 32 to a word, for the worst case of one word a page.
# What a settlement brings: pages, rows, and the receipts of 320 sellers in a session of 24
# slots, of 160 in one of a whole day.
MAX_BATCH_WORDS: constant(uint256) = 2_336
# Receipts whose keys are checked in one call of the registry.
MAX_CLAIMS: constant(uint256) = 16
# A profile has no seventeenth word: none of an ask's words of exports is at hand.
NO_WORD: constant(uint256) = 16

NO_PRICE: constant(uint256) = 65_535
# A claim from here on says that nothing trades; what is above it is the witness.
NO_TRADE: constant(uint256) = 65_536
# Above every limit, fee included.

ASK: constant(uint256) = 1 << 128
PROFILE: constant(uint256) = 2 << 128
# The parts of a header that say in which slots the order stands.
SHAPE: constant(uint256) = PROFILE | (65_535 << 72)
# No header has it: it lies outside those parts.
NO_SHAPE: constant(uint256) = 1

MASK_32: constant(uint256) = 2**32 - 1
MASK_48: constant(uint256) = 2**48 - 1
MASK_96: constant(uint256) = 2**96 - 1

# The market's session word.
CLEARED: constant(uint256) = 8
SETTLED: constant(uint256) = 16
VOIDED: constant(uint256) = 24
PENALTY_RATE: constant(uint256) = 32
GATE: constant(uint256) = 80

# The clearing word: price | fee << 16 | band minimum << 32 | band maximum << 48
#                    | rationed side << 64 | available << 72 | total << 120 | volume << 168
# where `available` of `total` Wh at the price on the rationed side are filled.
RATIONED: constant(uint256) = 64
AVAILABLE: constant(uint256) = 72
TOTAL: constant(uint256) = 120
VOLUME: constant(uint256) = 168

# Edges of a slot, four limits in a word: an ask below the first stands at or below the price,
# below the second under it; a bid from the third on stands at or above it, from the fourth on
# over it.

# Sums of a slot, in Wh: S<=p | S<p << 48 | D>=p << 96 | D>p << 144
ASK_BOTH: constant(uint256) = 1 | (1 << 48)
BID_ONE: constant(uint256) = 1 << 96
BID_BOTH: constant(uint256) = (1 << 96) | (1 << 144)

# Tally of a slot while it is settled, in Wh: room under the zone's export | delivered << 48
# | missing << 96 | at the price so far << 144 | filled bids so far << 192
DELIVERED: constant(uint256) = 48
MISSING: constant(uint256) = 96
AT_PRICE: constant(uint256) = 144
BOUGHT: constant(uint256) = 192


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event ReceiptLodged:
    meter: indexed(uint256)
    first_slot: indexed(uint256)
    receipt: delivery_receipts.Delivery



# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

MARKET: immutable(IEnergyMarket)
PARAMETERS: immutable(IGridParameters)
REGISTRY: immutable(IMeterRegistry)
LEDGER: immutable(IReadingLedger)

# meter -> first slot of the session -> a receipt was lodged on chain
lodged: public(HashMap[uint256, HashMap[uint256, bool]])

# What is left of the meters' receipts while a settlement runs: the same energy is never sold
# twice. One transaction may hold several settlements, so each has a number.
_runs: transient(uint256)
# meter -> number of the settlement that heard its receipt << 16 | Wh left of it where one slot is
# settled
_heard: transient(uint256[2**32])
# meter << 3 | word of its exports -> Wh left per slot, where it is about several
_left: transient(uint256[2**35])


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(market: address, parameters: address, registry: address, ledger: address):
    MARKET = IEnergyMarket(market)
    PARAMETERS = IGridParameters(parameters)
    REGISTRY = IMeterRegistry(registry)
    LEDGER = IReadingLedger(ledger)


# ---------------------------------------------------------------------------- #
#                                   CLEARING                                   #
# ---------------------------------------------------------------------------- #

@external
def clear(
    zone: uint256,
    first_slot: uint256,
    prices: DynArray[uint256, MAX_SLOTS],
    pages: DynArray[uint256, session_book.MAX_PAGE_WORDS],
    rows: DynArray[uint256, MAX_ROWS],
):
    """
    @notice Clears the next `len(prices)` slots of a session whose gate has closed.
    @param prices The canonical price of each slot; 65,536 plus a witness where nothing trades.
           Any other price reverts.
    @param pages Words in each page of the book, a byte a page, lowest first.
    @param rows All words of the book, in order of arrival.
    """
    session: uint256 = 0
    book: uint256 = 0
    session, book = staticcall MARKET.session_words(zone, first_slot)
    gate: uint256 = session >> GATE
    start: uint256 = (session >> CLEARED) & 255
    slots: uint256 = len(prices)
    stop: uint256 = start + slots
    assert slots != 0 and stop <= session & 255, "auction: slots out of range"
    sizes: uint256 = 36 + convert(slice(msg.data, 100, 32), uint256)
    at: uint256 = 36 + convert(slice(msg.data, 132, 32), uint256)
    assert (
        session_book._fold(sizes, sizes + 32 * len(pages), at, at + 32 * len(rows)) == book & session_book.HASH_MASK
    ), "auction: not the session's orders"
    session_terms: uint256 = staticcall PARAMETERS.session_terms(gate)
    assert (
        block.timestamp <= gate + ((session_terms >> 80) & (2**24 - 1))
    ), "auction: too late to clear"

    terms: DynArray[uint256, MAX_SLOTS] = staticcall PARAMETERS.market_terms(
        zone, first_slot + start, slots, gate
    )
    edges: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    sums: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    for k: uint256 in range(slots, bound=MAX_SLOTS):
        price: uint256 = prices[k]
        least: uint256 = (terms[k] >> 16) & 65_535
        most: uint256 = terms[k] >> 32
        if price >= NO_TRADE:
            price -= NO_TRADE
            assert price >= least and price <= most + 1, "auction: witness outside the band"
        else:
            # Effective limits lie inside the band, and with them the price between them.
            assert price >= least and price <= most, "auction: price outside the band"
        edges[k] = session_book._edges(price, terms[k] & 65_535, least, most)

    # Unchecked below: energy stays under 512 * 65,535 Wh, places in the book and in a word are
    # small.
    header: uint256 = 0
    limit: uint256 = 0
    # Profile words that follow the header, and the session's slot in their lowest place.
    words: uint256 = 0
    slot: uint256 = 0
    if slots == 1:
        # One slot needs no arrays.
        asks: uint256 = 0
        asks_under: uint256 = 0
        bids: uint256 = 0
        bids_over: uint256 = 0
        ask_at: uint256 = edges[0] & MASK_32
        ask_under: uint256 = (edges[0] >> session_book.ASK_UNDER) & MASK_32
        bid_at: uint256 = (edges[0] >> session_book.BID_AT) & MASK_32
        bid_over: uint256 = edges[0] >> session_book.BID_OVER
        # A flat order of this slot alone, as nearly all are in such a book.
        shape: uint256 = (start << 80) | (1 << 72)
        wh: uint256 = 0
        for row: uint256 in rows:
            if words == 0:
                header = row
                wh = (row >> 88) & 65_535
                if row & SHAPE != shape:
                    if row & PROFILE != 0:
                        slot = (row >> 80) & 240
                        words = session_book._profile_words(row)
                        continue
                    if unsafe_sub(start, (row >> 80) & 255) >= (row >> 72) & 255:
                        continue
            else:
                words = unsafe_sub(words, 1)
                wh = unsafe_sub(start, slot)
                slot = unsafe_add(slot, 16)
                # Where the slot lies in another word the difference is negative or large.
                if wh > 15:
                    continue
                wh = (row >> (wh << 4)) & 65_535
            limit = (header >> 104) & 65_535
            if header & ASK == 0:
                if limit >= bid_at:
                    bids = unsafe_add(bids, wh)
                    if limit >= bid_over:
                        bids_over = unsafe_add(bids_over, wh)
            elif limit < ask_at:
                asks = unsafe_add(asks, wh)
                if limit < ask_under:
                    asks_under = unsafe_add(asks_under, wh)
        sums[0] = asks | (asks_under << 48) | (bids << 96) | (bids_over << 144)
    else:
        for row: uint256 in rows:
            values: uint256 = row
            low: uint256 = 0
            high: uint256 = 0
            flat: uint256 = 0
            if words == 0:
                header = row
                limit = (row >> 104) & 65_535
                slot = (row >> 80) & 255
                if row & PROFILE != 0:
                    slot = slot & 240
                    words = session_book._profile_words(row)
                    continue
                flat = (row >> 88) & 65_535
                low = max(slot, start)
                high = min(unsafe_add(slot, (row >> 72) & 255), stop)
            else:
                words = unsafe_sub(words, 1)
                low = max(slot, start)
                high = min(unsafe_add(slot, 16), stop)
                values = values >> (unsafe_sub(low, slot) << 4)
                slot = unsafe_add(slot, 16)
            if low >= high:
                continue
            is_ask: bool = header & ASK != 0
            for k: uint256 in range(
                unsafe_sub(low, start), unsafe_sub(high, start), bound=MAX_SLOTS
            ):
                wh: uint256 = flat
                if wh == 0:
                    wh = values & 65_535
                    values = values >> 16
                edge: uint256 = edges[k]
                if is_ask:
                    if limit < edge & MASK_32:
                        if limit < (edge >> session_book.ASK_UNDER) & MASK_32:
                            wh = unsafe_mul(wh, ASK_BOTH)
                        sums[k] = unsafe_add(sums[k], wh)
                elif limit >= (edge >> session_book.BID_AT) & MASK_32:
                    if limit >= edge >> session_book.BID_OVER:
                        sums[k] = unsafe_add(sums[k], unsafe_mul(wh, BID_BOTH))
                    else:
                        sums[k] = unsafe_add(sums[k], unsafe_mul(wh, BID_ONE))

    # Of the slots whose interval of prices reaches beyond the claimed one: 1 downwards,
    # 2 upwards.
    reaches: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    any_reaches: bool = False
    clearings: DynArray[uint256, MAX_SLOTS] = []
    for k: uint256 in range(slots, bound=MAX_SLOTS):
        supply: uint256 = sums[k] & MASK_48
        asks_under: uint256 = (sums[k] >> 48) & MASK_48
        demand: uint256 = (sums[k] >> 96) & MASK_48
        bids_over: uint256 = sums[k] >> 144
        # Fee and band follow the price, in the terms' order.
        clearing: uint256 = NO_PRICE | (terms[k] << 16)
        if prices[k] >= NO_TRADE:
            assert demand == 0 and asks_under == 0, "auction: orders cross"
        else:
            volume: uint256 = min(demand, supply)
            assert volume != 0, "auction: nothing trades here"
            assert max(bids_over, asks_under) <= volume, "auction: price does not clear"
            if demand == asks_under:
                reaches[k] = 1
                any_reaches = True
            if supply == bids_over:
                reaches[k] |= 2
                any_reaches = True
            clearing = prices[k] | (terms[k] << 16) | (volume << VOLUME)
            if volume < demand:
                # Bids at the price share what the better bids leave.
                clearing |= ((volume - bids_over) << AVAILABLE) | (
                    (demand - bids_over) << TOTAL
                )
            else:
                clearing |= (
                    (1 << RATIONED)
                    | ((volume - asks_under) << AVAILABLE)
                    | ((supply - asks_under) << TOTAL)
                )
        clearings.append(clearing)

    if any_reaches:
        # Highest limit under the price and lowest over it, where they are asked for.
        below: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
        above: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
        for k: uint256 in range(slots, bound=MAX_SLOTS):
            above[k] = session_book.NEVER
        words = 0
        for row: uint256 in rows:
            values: uint256 = row
            low: uint256 = 0
            high: uint256 = 0
            flat: uint256 = 0
            if words == 0:
                header = row
                limit = (row >> 104) & 65_535
                slot = (row >> 80) & 255
                if row & PROFILE != 0:
                    slot = slot & 240
                    words = session_book._profile_words(row)
                    continue
                flat = (row >> 88) & 65_535
                low = max(slot, start)
                high = min(unsafe_add(slot, (row >> 72) & 255), stop)
            else:
                words = unsafe_sub(words, 1)
                low = max(slot, start)
                high = min(unsafe_add(slot, 16), stop)
                values = values >> (unsafe_sub(low, slot) << 4)
                slot = unsafe_add(slot, 16)
            if low >= high:
                continue
            is_ask: bool = header & ASK != 0
            for k: uint256 in range(
                unsafe_sub(low, start), unsafe_sub(high, start), bound=MAX_SLOTS
            ):
                wh: uint256 = flat
                if wh == 0:
                    wh = values & 65_535
                    values = values >> 16
                # An order without energy in a slot is no neighbour there.
                if reaches[k] == 0 or wh == 0:
                    continue
                term: uint256 = terms[k]
                effective: uint256 = 0
                if is_ask:
                    if limit > term >> 32:
                        continue
                    effective = max(limit, (term >> 16) & 65_535)
                else:
                    if limit < (term & 65_535) + ((term >> 16) & 65_535):
                        continue
                    effective = min(limit - (term & 65_535), term >> 32)
                if effective < prices[k]:
                    below[k] = max(below[k], effective)
                elif effective > prices[k]:
                    above[k] = min(above[k], effective)
        for k: uint256 in range(slots, bound=MAX_SLOTS):
            low: uint256 = prices[k]
            high: uint256 = prices[k]
            # There is volume, so the sums that are equal hold energy, and the neighbour exists.
            if reaches[k] & 1 != 0:
                low = below[k]
            if reaches[k] & 2 != 0:
                high = above[k]
            if reaches[k] != 0:
                assert prices[k] == (low + high) // 2, "auction: price is not canonical"

    extcall MARKET.record_clearing(zone, first_slot, clearings)


# ---------------------------------------------------------------------------- #
#                                  SETTLEMENT                                  #
# ---------------------------------------------------------------------------- #

@external
def lodge_receipt(meter: uint256, zone: uint256, first_slot: uint256, receipt: delivery_receipts.Delivery):
    """
    @notice Puts it on record that a meter's receipt exists, so that nobody can settle late
            as if it were missing. Only needed where someone else's receipt is outstanding.
    """
    session: uint256 = 0
    book: uint256 = 0
    session, book = staticcall MARKET.session_words(zone, first_slot)
    # Only after the end: before it the key may still change, and the lodged receipt would be
    # worth nothing but could not be left out either.
    delivery_receipts._check_signed(
        MARKET.address,
        REGISTRY,
        delivery_receipts.RECEIPT_TYPE,
        meter,
        first_slot,
        session & 255,
        receipt,
    )
    self.lodged[meter][first_slot] = True
    # With all that settling needs: whoever settles must be able to find it.
    log ReceiptLodged(meter=meter, first_slot=first_slot, receipt=receipt)


@external
def settle(
    zone: uint256,
    first_slot: uint256,
    slots: uint256,
    pages: uint256,
    rows: uint256,
    batch: DynArray[uint256, MAX_BATCH_WORDS],
):
    """
    @notice Settles the next `slots` slots of a session: sellers are paid for what their
            meters proved, buyers get the rest of their escrow back, and a shortfall is paid
            from the seller's collateral to the buyers it hit.
    @param pages How many words of the batch say how the book is cut into pages.
    @param rows How many words the book has.
    @param batch Words in each page of the book, a byte a page, lowest first; per slot what the
           settlement comes to, missing Wh @48 | delivered Wh @0, where any other figures revert;
           all words of the book, in order of arrival; then the receipts, one for each meter, in
           the order in which its asks are first filled in these slots: r and `yParity and s` of
           the device's signature, and the meter's export per slot of the whole session, 16
           values of 16 bits a word. Zeros stand for a receipt that is missing.
    @dev As `EnergyMarket.post`: no variable of its own, so that memory is paid for what the
         batch holds, not for what it might.
    """
    if slots == 1:
        self._settle_slot(zone, first_slot, pages, rows)
    else:
        self._settle_run(zone, first_slot, slots, pages, rows)


@internal
def _settle_slot(zone: uint256, first_slot: uint256, pages: uint256, rows: uint256):
    """
    @dev One slot needs no arrays. Otherwise as `_settle_run`.
    """
    session: uint256 = 0
    at: uint256 = 0
    last: uint256 = 0
    session, at, last = self._opened(zone, first_slot, 1, pages, rows)
    slots: uint256 = session & 255
    start: uint256 = (session >> SETTLED) & 255
    penalty: uint256 = (session >> PENALTY_RATE) & 65_535
    clearing: uint256 = self._clearing(zone, first_slot + start)
    exported: uint256 = 0
    prefix: Bytes[34] = b""
    # Marks what meters have left as this settlement's.
    run: uint256 = 0
    if self._trades(clearing):
        self._check_metered(zone, first_slot, start + 1, slots)
        exported = self._export(zone, first_slot + start)
        prefix = delivery_receipts._prefix(MARKET.address)
        run = self._next_run()

    price: uint256 = clearing & 65_535
    # What a buyer pays for a Wh.
    rate: uint256 = price + ((clearing >> 16) & 65_535)
    available: uint256 = (clearing >> AVAILABLE) & MASK_48
    total: uint256 = (clearing >> TOTAL) & MASK_48
    volume: uint256 = clearing >> VOLUME
    # Limits from which on bids are filled and asks are not; bids below and asks from a limit on
    # share what is available.
    edge: uint256 = self._settled_edges(clearing)
    asks_end: uint256 = edge & MASK_32
    asks_share: uint256 = session_book.NEVER
    bids_begin: uint256 = (edge >> session_book.BID_AT) & MASK_32
    bids_share: uint256 = 0
    if (clearing >> RATIONED) & 1 == 1:
        asks_share = (edge >> session_book.ASK_UNDER) & MASK_32
    else:
        bids_share = edge >> session_book.BID_OVER
    # What the caller says it comes to, proved at the end: by it the bids are served, which need
    # not wait for the last ask.
    outcome: uint256 = convert(slice(msg.data, unsafe_sub(at, 32), 32), uint256)
    sold: uint256 = outcome & MASK_48
    due: uint256 = unsafe_mul(outcome >> 48, penalty)

    # Where the calldata keeps the end of the book's words, and the next receipt.
    end: uint256 = unsafe_add(at, unsafe_mul(rows, 32))
    receipt: uint256 = end
    # The receipts at hand, those heard of them, and who signed these, to be held against the
    # registry: meter << 160 | signer.
    receipts: DynArray[uint256[4], MAX_CLAIMS] = []
    heard: uint256 = 0
    claims: uint256[MAX_CLAIMS] = empty(uint256[MAX_CLAIMS])
    stride: uint256 = unsafe_mul(unsafe_add(slots, 15) >> 4, 32) + 64
    # Where in a receipt's two words of exports the slot lies: shifted this far, the other is 0.
    place: uint256 = (start & 15) << 4
    place_above: uint256 = 256
    if stride == 128 and start > 15:
        place_above = place
        place = 256
    # The shape of a flat order of this slot alone, as nearly all are in such a book; none while
    # profile words are read.
    plain: uint256 = (start << 80) | (1 << 72)
    shape: uint256 = plain

    # Of the zone's export what no ask has been served with.
    room: uint256 = exported
    # What is left of the meters' receipts: meter << 16 | Wh, by the meter's last eight bits. Where
    # two meters want one seat, the one that comes later takes it, and what the other has left goes
    # to `_heard`.
    seats: uint256[256] = empty(uint256[256])
    at_hand: uint256 = 0
    # Two orders a word; the one that waits for its neighbour, 0 for none.
    entries: uint256[MAX_ENTRY_WORDS] = empty(uint256[MAX_ENTRY_WORDS])
    pairs: uint256 = 0
    waiting: uint256 = 0
    released: uint256 = 0
    header: uint256 = 0
    limit: uint256 = 0
    account: uint256 = 0
    # An order's Wh, how many of them are filled and delivered, and what its account gets back.
    wh: uint256 = 0
    fill: uint256 = 0
    got: uint256 = 0
    credit: uint256 = 0
    # Profile words of the order that are still to come, and the slot in their lowest place.
    words: uint256 = 0
    slot: uint256 = 0
    # Sums over the orders so far. Of all asks the Wh, of filled ones the Wh missing.
    offered: uint256 = 0
    missing: uint256 = 0
    # At the price on the long side the Wh, and what is filled of them.
    at_price: uint256 = 0
    shared: uint256 = 0
    # Of filled bids the Wh, what is delivered of them and the penalties that they share.
    bought: uint256 = 0
    taken: uint256 = 0
    paid: uint256 = 0
    before: uint256 = 0
    left: uint256 = 0

    # Unchecked below: a slot's energy stays under 2**25 Wh and prices and rates under 2**16, so
    # that no product reaches 2**80 and no credit 2**48; a share is never more than the whole; an
    # outcome that would break this is not the one that is proved. Where nothing stands at the
    # price its total is 0, and so is what an order without energy in the slot gets of it.
    for _: uint256 in range(MAX_ROWS):
        if at == end:
            break
        piece: DynArray[uint256, 64] = self._words(at, end)
        at = unsafe_add(at, unsafe_mul(len(piece), 32))
        for row: uint256 in piece:
            if row & SHAPE == shape:
                header = row
                wh = (row >> 88) & 65_535
            elif words == 0:
                header = row
                wh = (row >> 88) & 65_535
                if row & PROFILE != 0:
                    slot = (row >> 80) & 240
                    words = session_book._profile_words(row)
                    shape = NO_SHAPE
                    continue
                if unsafe_sub(start, (row >> 80) & 255) >= (row >> 72) & 255:
                    wh = 0
            else:
                words = unsafe_sub(words, 1)
                # Where the slot lies in another word the difference is negative or large.
                if unsafe_sub(start, slot) < 16:
                    wh = (row >> (unsafe_sub(start, slot) << 4)) & 65_535
                slot = unsafe_add(slot, 16)
                if words != 0:
                    continue
                shape = plain

            limit = (header >> 104) & 65_535
            if header & ASK == 0:
                credit = unsafe_mul(wh, limit)
                released = unsafe_add(released, credit)
                if limit >= bids_begin:
                    fill = wh
                    if limit < bids_share:
                        # At the price on the long side: cumulative rounding in order of arrival.
                        at_price = unsafe_add(at_price, wh)
                        fill = unsafe_sub(
                            unsafe_div(unsafe_mul(at_price, available), total), shared
                        )
                        shared = unsafe_add(shared, fill)
                    # Delivered Wh and penalties are shared over the filled bids by cumulative
                    # rounding. An order pays at most its limit, so its credit cannot fall below
                    # zero.
                    bought = unsafe_add(bought, fill)
                    got = unsafe_sub(unsafe_div(unsafe_mul(bought, sold), volume), taken)
                    taken = unsafe_add(taken, got)
                    before = paid
                    paid = unsafe_div(unsafe_mul(bought, due), volume)
                    credit = unsafe_sub(
                        unsafe_add(credit, unsafe_sub(paid, before)), unsafe_mul(got, rate)
                    )
                else:
                    fill = 0
                    got = 0
            else:
                offered = unsafe_add(offered, wh)
                got = 0
                if limit >= asks_end:
                    fill = 0
                else:
                    fill = wh
                    if limit >= asks_share:
                        at_price = unsafe_add(at_price, wh)
                        fill = unsafe_sub(
                            unsafe_div(unsafe_mul(at_price, available), total), shared
                        )
                        shared = unsafe_add(shared, fill)
                    if fill != 0:
                        account = header >> 224
                        at_hand = seats[account & 255]
                        left = unsafe_sub(at_hand, account << 16)
                        # Very large where another meter has the seat, or none.
                        if left > 65_535:
                            if at_hand != 0:
                                # Below the mark, and then very large, where it was not heard yet.
                                self._heard[at_hand >> 16] = run | (at_hand & 65_535)
                                left = unsafe_sub(self._heard[account], run)
                        if left > 65_535:
                            if heard == len(receipts):
                                self._check_devices(claims, first_slot, slots)
                                claims = empty(uint256[MAX_CLAIMS])
                                receipts = self._receipts(receipt, last, slots, start)
                                receipt = unsafe_add(
                                    receipt, unsafe_mul(len(receipts), stride)
                                )
                                heard = 0
                            # r, vs, the meter's exports.
                            paper: uint256[4] = receipts[heard]
                            if paper[0] == 0:
                                self._check_missing(account, first_slot, session)
                                left = 0
                            else:
                                left = ((paper[2] >> place) | (paper[3] >> place_above)) & 65_535
                                exports: bytes32 = keccak256(abi_encode(paper[2], paper[3]))
                                if stride != 128:
                                    # A word and the hash.
                                    exports = convert(paper[3], bytes32)
                                assert (
                                    paper[1] & delivery_receipts.LOW_255 <= delivery_receipts.MAX_S
                                ), "auction: not the device's receipt"
                                claims[heard] = (account << 160) | convert(
                                    ecrecover(
                                        keccak256(
                                            concat(
                                                prefix,
                                                keccak256(
                                                    abi_encode(
                                                        delivery_receipts.RECEIPT_TYPE,
                                                        account,
                                                        first_slot,
                                                        slots,
                                                        exports,
                                                    )
                                                ),
                                            )
                                        ),
                                        unsafe_add(27, paper[1] >> 255),
                                        paper[0],
                                        paper[1] & delivery_receipts.LOW_255,
                                    ),
                                    uint256,
                                )
                            heard = unsafe_add(heard, 1)
                        # Used up as asks are served: the same energy is never sold twice.
                        if left >= fill:
                            got = fill
                            left = unsafe_sub(left, fill)
                        else:
                            got = left
                            before = unsafe_sub(fill, left)
                            missing = unsafe_add(missing, before)
                            # The penalty falls on what was filled but not delivered.
                            wh = unsafe_sub(wh, before)
                            left = 0
                        seats[account & 255] = (account << 16) | left
                        # No more is sold than the zone exported, whatever the devices claim.
                        # First come, first served, and what is cut is not paid but not penalised
                        # either: one false receipt can neither stop the others' settlement nor
                        # cost them more than the energy it claims.
                        if got > room:
                            got = room
                        room = unsafe_sub(room, got)
                credit = unsafe_add(unsafe_mul(wh, penalty), unsafe_mul(got, price))

            credit = (header >> 224 << 96) | (got << 72) | (fill << 48) | credit
            if waiting == 0:
                waiting = credit
            else:
                entries[pairs] = (waiting << 128) | credit
                pairs = unsafe_add(pairs, 1)
                waiting = 0

    assert (
        receipt == last and heard == len(receipts)
    ), "auction: receipts do not fit the asks"
    self._check_devices(claims, first_slot, slots)
    delivered: uint256 = exported - room
    assert outcome == delivered | (missing << 48), "auction: not what it comes to"

    orders: uint256 = 2 * pairs
    if waiting != 0:
        entries[pairs] = waiting << 128
        orders += 1
    totals: DynArray[uint256, 1] = [
        delivered
        | ((delivered * ((clearing >> 16) & 65_535)) << 64)
        | (due << 128)
        | (self._price(clearing) << 192)
    ]
    extcall MARKET.record_settlement(
        zone,
        first_slot,
        totals,
        released + offered * penalty,
        orders,
        entries,
    )


@internal
def _settle_run(
    zone: uint256, first_slot: uint256, slots: uint256, pages: uint256, rows: uint256
):
    session: uint256 = 0
    at: uint256 = 0
    last: uint256 = 0
    session, at, last = self._opened(zone, first_slot, slots, pages, rows)
    start: uint256 = (session >> SETTLED) & 255
    stop: uint256 = start + slots
    penalty: uint256 = (session >> PENALTY_RATE) & 65_535
    clearings: DynArray[uint256, MAX_SLOTS] = staticcall MARKET.clearing_words(
        zone, first_slot + start, slots
    )
    edges: DynArray[uint256, MAX_SLOTS] = []
    trades: bool = False
    for clearing: uint256 in clearings:
        edges.append(self._settled_edges(clearing))
        if self._trades(clearing):
            trades = True

    # Of the zone's totals the export, which no slot's deliveries exceed.
    tallies: DynArray[uint256, MAX_SLOTS] = []
    prefix: Bytes[34] = b""
    run: uint256 = 0
    if trades:
        self._check_metered(zone, first_slot, stop, session & 255)
        for total: uint256 in staticcall LEDGER.totals(zone, first_slot + start, slots):
            tallies.append(total >> 32)
        prefix = delivery_receipts._prefix(MARKET.address)
        run = self._next_run()
    else:
        for _: uint256 in range(slots, bound=MAX_SLOTS):
            tallies.append(0)

    # What the caller says it comes to, slot by slot, proved at the end: by it the bids are served,
    # which need not wait for the last ask.
    outcomes: DynArray[uint256, MAX_SLOTS] = []
    for k: uint256 in range(slots, bound=MAX_SLOTS):
        outcomes.append(convert(slice(msg.data, at - 32 * (slots - k), 32), uint256))

    # Where the calldata keeps the end of the book's words, and the next receipt.
    end: uint256 = unsafe_add(at, unsafe_mul(rows, 32))
    receipt: uint256 = end
    export_words: uint256 = ((session & 255) + 15) >> 4
    # Who signed, to be held against the registry: meter << 160 | signer.
    claims: uint256[MAX_CLAIMS] = empty(uint256[MAX_CLAIMS])
    heard: uint256 = 0

    # Two orders a word; the one that waits for its neighbour, 0 for none.
    entries: uint256[MAX_ENTRY_WORDS] = empty(uint256[MAX_ENTRY_WORDS])
    pairs: uint256 = 0
    waiting: uint256 = 0
    released: uint256 = 0
    header: uint256 = 0
    limit: uint256 = 0
    # Profile words of the order that are still to come, and the slot in their lowest place.
    words: uint256 = 0
    slot: uint256 = 0
    # Of the ask's meter: where its exports lie, which word of them is at hand, and the word.
    lanes: uint256 = 0
    place: uint256 = NO_WORD
    lane: uint256 = 0
    energy: uint256 = 0
    filled: uint256 = 0
    got: uint256 = 0
    money: uint256 = 0
    # Short of what was sold, in Wh; of a bid what sellers pay for that, in money.
    short: uint256 = 0

    # Unchecked below: a slot's energy stays under 2**25 Wh and prices and rates under 2**16, so
    # that no product reaches 2**80; a share is never more than the whole, and a lane holds what
    # is taken from it; an outcome that would break this is not the one that is proved. Where
    # nothing stands at the price its total is 0, and so is what an order without energy in the
    # slot gets of it.
    for _: uint256 in range(MAX_ROWS):
        if at == end:
            break
        piece: DynArray[uint256, 64] = self._words(at, end)
        at = unsafe_add(at, unsafe_mul(len(piece), 32))
        for row: uint256 in piece:
            values: uint256 = row
            low: uint256 = 0
            high: uint256 = 0
            flat: uint256 = 0
            if words == 0:
                header = row
                limit = (row >> 104) & 65_535
                lanes = row >> 224 << 3
                energy = 0
                filled = 0
                got = 0
                money = 0
                short = 0
                slot = (row >> 80) & 255
                if row & PROFILE != 0:
                    slot = slot & 240
                    words = session_book._profile_words(row)
                    continue
                flat = (row >> 88) & 65_535
                low = max(slot, start)
                high = min(unsafe_add(slot, (row >> 72) & 255), stop)
            else:
                words = unsafe_sub(words, 1)
                low = max(slot, start)
                high = min(unsafe_add(slot, 16), stop)
                values = values >> (unsafe_sub(low, slot) << 4)
                slot = unsafe_add(slot, 16)

            if low >= high:
                # Stands in none of these slots.
                pass
            elif header & ASK != 0:
                for k: uint256 in range(
                    unsafe_sub(low, start), unsafe_sub(high, start), bound=MAX_SLOTS
                ):
                    wh: uint256 = flat
                    if wh == 0:
                        wh = values & 65_535
                        values = values >> 16
                    energy = unsafe_add(energy, wh)
                    if limit >= edges[k] & MASK_32:
                        continue
                    tally: uint256 = tallies[k]
                    clearing: uint256 = clearings[k]
                    fill: uint256 = wh
                    if (clearing >> RATIONED) & 1 == 1:
                        if limit >= (edges[k] >> session_book.ASK_UNDER) & MASK_32:
                            # At the price on the long side: cumulative rounding in order of
                            # arrival.
                            before: uint256 = (tally >> AT_PRICE) & MASK_48
                            total: uint256 = (clearing >> TOTAL) & MASK_48
                            fill = (clearing >> AVAILABLE) & MASK_48
                            fill = unsafe_sub(
                                unsafe_div(unsafe_mul(unsafe_add(before, wh), fill), total),
                                unsafe_div(unsafe_mul(before, fill), total),
                            )
                            tally = unsafe_add(tally, wh << AT_PRICE)
                    if fill == 0:
                        tallies[k] = tally
                        continue
                    filled = unsafe_add(filled, fill)
                    at_slot: uint256 = unsafe_add(start, k)
                    if at_slot >> 4 != place:
                        if place != NO_WORD:
                            self._left[unsafe_add(lanes, place)] = lane
                        elif self._heard[header >> 224] != run:
                            self._heard[header >> 224] = run
                            is_missing: bool = (
                                convert(slice(msg.data, receipt, 32), uint256) == 0
                            )
                            if is_missing:
                                self._check_missing(header >> 224, first_slot, session)
                            else:
                                claims[heard] = (header >> 224 << 160) | self._signer(
                                    prefix, header >> 224, first_slot, session & 255, receipt
                                )
                                heard = unsafe_add(heard, 1)
                                if heard == MAX_CLAIMS:
                                    self._check_devices(claims, first_slot, session & 255)
                                    claims = empty(uint256[MAX_CLAIMS])
                                    heard = 0
                            receipt = unsafe_add(receipt, 64)
                            for j: uint256 in range(export_words, bound=6):
                                exports: uint256 = convert(slice(msg.data, receipt, 32), uint256)
                                # Nobody signed what stands in the place of a missing receipt.
                                if is_missing:
                                    exports = 0
                                self._left[unsafe_add(lanes, j)] = exports
                                receipt = unsafe_add(receipt, 32)
                        place = at_slot >> 4
                        lane = self._left[unsafe_add(lanes, place)]
                    at_slot = (at_slot & 15) << 4
                    proved: uint256 = (lane >> at_slot) & 65_535
                    if proved > fill:
                        proved = fill
                    # Used up as asks are served: the same energy is never sold twice.
                    lane = unsafe_sub(lane, proved << at_slot)
                    missing: uint256 = unsafe_sub(fill, proved)
                    short = unsafe_add(short, missing)
                    # No more is sold than the zone exported, whatever the devices claim. First
                    # come, first served, and what is cut is not paid but not penalised either:
                    # one false receipt can neither stop the others' settlement nor cost them
                    # more than the energy it claims.
                    if proved > tally & MASK_48:
                        proved = tally & MASK_48
                    got = unsafe_add(got, proved)
                    money = unsafe_add(money, unsafe_mul(proved, clearing & 65_535))
                    tallies[k] = unsafe_add(
                        unsafe_sub(tally, proved),
                        (proved << DELIVERED) | (missing << MISSING),
                    )
            else:
                for k: uint256 in range(
                    unsafe_sub(low, start), unsafe_sub(high, start), bound=MAX_SLOTS
                ):
                    wh: uint256 = flat
                    if wh == 0:
                        wh = values & 65_535
                        values = values >> 16
                    energy = unsafe_add(energy, wh)
                    if limit < (edges[k] >> session_book.BID_AT) & MASK_32:
                        continue
                    tally: uint256 = tallies[k]
                    clearing: uint256 = clearings[k]
                    fill: uint256 = wh
                    if (clearing >> RATIONED) & 1 == 0:
                        if limit < edges[k] >> session_book.BID_OVER:
                            before: uint256 = (tally >> AT_PRICE) & MASK_48
                            total: uint256 = (clearing >> TOTAL) & MASK_48
                            fill = (clearing >> AVAILABLE) & MASK_48
                            fill = unsafe_sub(
                                unsafe_div(unsafe_mul(unsafe_add(before, wh), fill), total),
                                unsafe_div(unsafe_mul(before, fill), total),
                            )
                            tally = unsafe_add(tally, wh << AT_PRICE)
                    filled = unsafe_add(filled, fill)
                    tallies[k] = unsafe_add(tally, fill << BOUGHT)
                    # Delivered Wh and penalties are shared over the filled bids by cumulative
                    # rounding.
                    volume: uint256 = clearing >> VOLUME
                    share: uint256 = outcomes[k] & MASK_48
                    if share == volume:
                        share = fill
                    else:
                        before: uint256 = tally >> BOUGHT
                        after: uint256 = unsafe_add(before, fill)
                        due: uint256 = unsafe_mul(outcomes[k] >> 48, penalty)
                        short = unsafe_add(
                            short,
                            unsafe_sub(
                                unsafe_div(unsafe_mul(after, due), volume),
                                unsafe_div(unsafe_mul(before, due), volume),
                            ),
                        )
                        share = unsafe_sub(
                            unsafe_div(unsafe_mul(after, share), volume),
                            unsafe_div(unsafe_mul(before, share), volume),
                        )
                    got = unsafe_add(got, share)
                    money = unsafe_add(
                        money,
                        unsafe_mul(
                            share, unsafe_add(clearing & 65_535, (clearing >> 16) & 65_535)
                        ),
                    )
            if words == 0:
                if header & ASK != 0:
                    if place != NO_WORD:
                        self._left[unsafe_add(lanes, place)] = lane
                        place = NO_WORD
                    # The collateral, less the penalty on what was filled but not delivered.
                    energy = unsafe_mul(energy, penalty)
                    released = unsafe_add(released, energy)
                    money = unsafe_sub(unsafe_add(energy, money), unsafe_mul(short, penalty))
                else:
                    # An order pays at most its limit, so its credit cannot fall below zero.
                    energy = unsafe_mul(energy, limit)
                    released = unsafe_add(released, energy)
                    money = unsafe_add(unsafe_sub(energy, money), short)
                money = (header >> 224 << 96) | (got << 72) | (filled << 48) | money
                if waiting == 0:
                    waiting = money
                else:
                    entries[pairs] = (waiting << 128) | money
                    pairs = unsafe_add(pairs, 1)
                    waiting = 0

    assert receipt == last, "auction: receipts do not fit the asks"
    if heard != 0:
        self._check_devices(claims, first_slot, session & 255)
    orders: uint256 = 2 * pairs
    if waiting != 0:
        entries[pairs] = waiting << 128
        orders += 1

    for k: uint256 in range(slots, bound=MAX_SLOTS):
        # The tallies become the slots' totals.
        delivered: uint256 = (tallies[k] >> DELIVERED) & MASK_48
        assert outcomes[k] == (tallies[k] >> DELIVERED) & MASK_96, "auction: not what it comes to"
        tallies[k] = (
            delivered
            | ((delivered * ((clearings[k] >> 16) & 65_535)) << 64)
            | ((((tallies[k] >> MISSING) & MASK_48) * penalty) << 128)
            | (self._price(clearings[k]) << 192)
        )
    extcall MARKET.record_settlement(zone, first_slot, tallies, released, orders, entries)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def contracts() -> (address, address, address, address):
    """
    @return Market, parameters, meter registry, reading ledger.
    """
    return MARKET.address, PARAMETERS.address, REGISTRY.address, LEDGER.address


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@view
@internal
def _opened(
    zone: uint256, first_slot: uint256, slots: uint256, pages: uint256, rows: uint256
) -> (uint256, uint256, uint256):
    """
    @notice Checks that the next slots may be settled and that the calldata holds their book.
    @return The session's word; where the calldata keeps the book's words, with the outcomes
            before them; where the batch ends.
    """
    session: uint256 = 0
    book: uint256 = 0
    session, book = staticcall MARKET.session_words(zone, first_slot)
    assert (
        slots != 0 and ((session >> SETTLED) & 255) + slots <= session & 255
    ), "auction: slots out of range"
    sizes: uint256 = 36 + convert(slice(msg.data, 164, 32), uint256)
    sizes_end: uint256 = sizes + 32 * pages
    at: uint256 = sizes_end + 32 * slots
    assert (
        session_book._fold(sizes, sizes_end, at, at + 32 * rows) == book & session_book.HASH_MASK
    ), "auction: not the session's orders"
    return session, at, sizes + 32 * convert(slice(msg.data, sizes - 32, 32), uint256)


@view
@internal
def _check_metered(zone: uint256, first_slot: uint256, stop: uint256, slots: uint256):
    """
    @notice Checks that the session is over and its slots up to `stop` are metered.
    """
    assert (
        block.timestamp >= (first_slot + slots) * SLOT_SECONDS
    ), "auction: delivery is not over"
    assert (
        staticcall LEDGER.committed_until(zone) >= first_slot + stop
    ), "auction: readings not committed"


@view
@internal
def _check_missing(meter: uint256, first_slot: uint256, session: uint256):
    """
    @notice Checks that a filled ask may go without its receipt: it is late, and none is on record,
            or its key was taken away since, for having signed another one.
    """
    end: uint256 = (first_slot + (session & 255)) * SLOT_SECONDS
    terms: uint256 = staticcall PARAMETERS.session_terms(session >> GATE)
    assert (
        block.timestamp > end + ((terms >> 104) & (2**24 - 1))
    ), "auction: a receipt is outstanding"
    if self.lodged[meter][first_slot]:
        device: address = staticcall REGISTRY.device_at(meter, end - 1)
        assert device == empty(address), "auction: receipt was lodged"


@view
@internal
def _clearing(zone: uint256, slot: uint256) -> uint256:
    """
    @return What the slot came to, as this contract packed it; 0 where it is not cleared.
    """
    words: DynArray[uint256, MAX_SLOTS] = staticcall MARKET.clearing_words(zone, slot, 1)
    return words[0]


@view
@internal
def _export(zone: uint256, slot: uint256) -> uint256:
    """
    @return What the zone's homes exported in the slot, in Wh.
    """
    words: DynArray[uint256, MAX_SLOTS] = staticcall LEDGER.totals(zone, slot, 1)
    return words[0] >> 32


@pure
@internal
def _trades(clearing: uint256) -> bool:
    # The market says what is cleared; it refuses a settlement of what is neither that nor void.
    return clearing != 0 and clearing & 65_535 != NO_PRICE


@pure
@internal
def _price(clearing: uint256) -> uint256:
    # A slot that was never cleared has none.
    return clearing & 65_535 if clearing != 0 else NO_PRICE


@pure
@internal
def _settled_edges(clearing: uint256) -> uint256:
    """
    @return The slot's edges. A void one has no price: whatever stands there gets its escrow
            back.
    """
    if not self._trades(clearing):
        return session_book.NEVER << session_book.BID_AT | session_book.NEVER << session_book.BID_OVER
    return session_book._edges(
        clearing & 65_535,
        (clearing >> 16) & 65_535,
        (clearing >> 32) & 65_535,
        (clearing >> 48) & 65_535,
    )


@view
@internal
def _words(at: uint256, end: uint256) -> DynArray[uint256, 64]:
    """
    @return The next words of the book, which the calldata holds from `at` to `end`. They are read
            in pieces: a whole book in memory would push everything else behind its bound, and
            memory costs by the place.
    """
    # The length goes before the words, as the decoder wants it.
    if unsafe_sub(end, at) >= 2_048:
        return abi_decode(
            concat(convert(64, bytes32), slice(msg.data, at, 2_048)),
            DynArray[uint256, 64],
            unwrap_tuple=False,
        )
    if unsafe_sub(end, at) >= 256:
        return abi_decode(
            concat(convert(8, bytes32), slice(msg.data, at, 256)),
            DynArray[uint256, 8],
            unwrap_tuple=False,
        )
    return [convert(slice(msg.data, at, 32), uint256)]


@view
@internal
def _hash_exports(at: uint256, slots: uint256) -> bytes32:
    """
    @return The hash of a receipt's export words, which begin at `at` of the calldata; sessions
            have one, two, three or six of them.
    """
    if slots <= 16:
        return keccak256(slice(msg.data, at, 32))
    if slots <= 32:
        return keccak256(slice(msg.data, at, 64))
    if slots <= 48:
        return keccak256(slice(msg.data, at, 96))
    return keccak256(slice(msg.data, at, 192))


@view
@internal
def _receipts(
    at: uint256, end: uint256, slots: uint256, start: uint256
) -> DynArray[uint256[4], MAX_CLAIMS]:
    """
    @return The next receipts, which the calldata holds from `at` to `end`: r, vs and their two
            words of exports; in sessions that have more or fewer words the one in which slot
            `start` of the session lies, and the hash of all.
    """
    if slots <= 16 or slots > 32:
        r: uint256 = 0
        vs: uint256 = 0
        r, vs = abi_decode(slice(msg.data, at, 64), (uint256, uint256))
        exports: uint256 = at + 64
        return [
            [
                r,
                vs,
                convert(slice(msg.data, exports + ((start >> 4) << 5), 32), uint256),
                convert(self._hash_exports(exports, slots), uint256),
            ]
        ]
    # The length goes before the words, as the decoder wants it.
    assert at < end, "auction: receipts do not fit the asks"
    if unsafe_sub(end, at) >= 2_048:
        return abi_decode(
            concat(convert(16, bytes32), slice(msg.data, at, 2_048)),
            DynArray[uint256[4], 16],
            unwrap_tuple=False,
        )
    if unsafe_sub(end, at) >= 512:
        return abi_decode(
            concat(convert(4, bytes32), slice(msg.data, at, 512)),
            DynArray[uint256[4], 4],
            unwrap_tuple=False,
        )
    return [abi_decode(slice(msg.data, at, 128), uint256[4])]


@view
@internal
def _signer(
    prefix: Bytes[34], meter: uint256, first_slot: uint256, slots: uint256, at: uint256
) -> uint256:
    """
    @return Who signed the receipt that lies at `at` of the calldata; zero where nobody did.
    """
    r: uint256 = 0
    vs: uint256 = 0
    r, vs = abi_decode(slice(msg.data, at, 64), (uint256, uint256))
    if vs & delivery_receipts.LOW_255 > delivery_receipts.MAX_S:
        return 0
    return convert(
        ecrecover(
            keccak256(
                concat(
                    prefix,
                    keccak256(
                        abi_encode(
                            delivery_receipts.RECEIPT_TYPE,
                            meter,
                            first_slot,
                            slots,
                            self._hash_exports(unsafe_add(at, 64), slots),
                        )
                    ),
                )
            ),
            unsafe_add(27, vs >> 255),
            r,
            vs & delivery_receipts.LOW_255,
        ),
        uint256,
    )


@internal
def _next_run() -> uint256:
    """
    @return What marks the meters that this settlement hears; below it there are 16 bits for what
            is left of their receipts.
    """
    run: uint256 = self._runs + (1 << 16)
    self._runs = run
    return run


@view
@internal
def _check_devices(claims: uint256[MAX_CLAIMS], first_slot: uint256, slots: uint256):
    # Where no key is in force it is nobody's, and nor is a failed recovery.
    assert staticcall REGISTRY.speak_for(
        claims, (first_slot + slots) * SLOT_SECONDS - 1
    ), "auction: not the device's receipt"
