# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A session's book, as calldata brings it back
@notice How its words are read and hashed, and where a limit stands against a price. Without state:
        shared by the contracts that clear, settle and adjust.
"""


# ---------------------------------------------------------------------------- #
#                                 CONSTANTS                                   #
# ---------------------------------------------------------------------------- #

# A byte says how long a page is: 32 to a word, for the worst case of one word a page.
MAX_PAGE_WORDS: constant(uint256) = 32
HASH_MASK: constant(uint256) = max_value(uint256) ^ (2**24 - 1)
# Above every limit, fee included.
NEVER: constant(uint256) = 2**18
# Edges of a slot, four limits in a word: an ask below the first stands at or below the price,
# below the second under it; a bid from the third on stands at or above it, from the fourth on
# over it.
ASK_UNDER: constant(uint256) = 32
BID_AT: constant(uint256) = 64
BID_OVER: constant(uint256) = 96


# ---------------------------------------------------------------------------- #
#                                  INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@pure
@internal
def _edges(price: uint256, fee: uint256, least: uint256, most: uint256) -> uint256:
    """
    @notice Where a raw limit stands against a price, so that no order's effective limit has to
            be worked out: a bid counts as min(limit - fee, band maximum), an ask as max(limit,
            band minimum), and what then lies outside the band takes no part.
    @return The four edges of a slot in a word.
    """
    ask_under: uint256 = price
    if price <= least:
        # Every ask counts as the band's minimum at least.
        ask_under = 0
    bid_at: uint256 = price + fee
    if price > most:
        # Only a witness lies above the band.
        bid_at = NEVER
    bid_over: uint256 = price + fee + 1
    if price >= most:
        bid_over = NEVER
    return (
        (price + 1) | (ask_under << ASK_UNDER) | (bid_at << BID_AT) | (bid_over << BID_OVER)
    )


@pure
@internal
def _profile_words(header: uint256) -> uint256:
    """
    @return How many words follow the header of a profile.
    """
    offset: uint256 = (header >> 80) & 255
    stop: uint256 = unsafe_add(unsafe_add(offset, (header >> 72) & 255), 15)
    return unsafe_sub(stop >> 4, offset >> 4)


@view
@internal
def _fold(sizes: uint256, sizes_end: uint256, rows: uint256, end: uint256) -> uint256:
    """
    @return The hash of the book that the calldata holds: hash = keccak256(hash || page), its low
            24 bits cleared, page by page.
    @param sizes Where the words with the sizes of the pages begin, and where they end; likewise
           of the rows.
    """
    page: uint256 = sizes
    at: uint256 = rows
    hash: bytes32 = empty(bytes32)
    for _: uint256 in range(MAX_PAGE_WORDS):
        if page == sizes_end:
            break
        left: uint256 = convert(slice(msg.data, page, 32), uint256)
        page = unsafe_add(page, 32)
        for __: uint256 in range(32):
            size: uint256 = left & 255
            if size == 0:
                break
            left = left >> 8
            if size == 64:
                hash = keccak256(concat(hash, slice(msg.data, at, 2_048)))
            elif size == 32:
                hash = keccak256(concat(hash, slice(msg.data, at, 1_024)))
            elif size == 16:
                hash = keccak256(concat(hash, slice(msg.data, at, 512)))
            elif size == 8:
                hash = keccak256(concat(hash, slice(msg.data, at, 256)))
            elif size == 4:
                hash = keccak256(concat(hash, slice(msg.data, at, 128)))
            elif size == 2:
                hash = keccak256(concat(hash, slice(msg.data, at, 64)))
            else:
                assert size == 1, "auction: no such page"
                hash = keccak256(concat(hash, slice(msg.data, at, 32)))
            hash = convert(convert(hash, uint256) & HASH_MASK, bytes32)
            at = unsafe_add(at, unsafe_mul(size, 32))
    assert at == end, "auction: pages do not cover the book"
    return convert(hash, uint256)
