# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Energy market
@notice Homes behind one transformer sell each other energy by the quarter-hour. Orders are
        signed off chain, posted in batches, cleared at one uniform price per slot, and
        settled by what the sellers' meters proved.

          post ... post | gate |  clear  |  delivery  |  receipts, commit  |  settle
          escrow taken           price                                        escrow released

@dev How it stays cheap without trusting whoever submits:

     - Orders are not stored. Every accepted word is folded into the session's running hash;
       clearing and settling bring the orders back in calldata and must arrive at that hash,
       so none can be dropped, changed, doubled or moved.
     - Clearing proves one price per slot. The canonical price is checked with four sums and
       two neighbours; whoever submits decides nothing.
     - Settling computes the fills again from the prices and releases each order's escrow in
       one storage write per order.

     Energy is in Wh, prices are in micro euro per Wh, money is in token units (1e-6 euro),
     so that Wh times price is money, exactly.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IGridParameters
from interfaces import IMeterRegistry
from interfaces import IReadingLedger

initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
DAY_SECONDS: constant(uint256) = 86_400
# The longest session is a whole day.
MAX_SLOTS: constant(uint256) = 96
# A session's book must fit one transaction of 16.7 million gas when it clears and settles.
MAX_ORDERS: constant(uint256) = 512
MAX_ROWS: constant(uint256) = 1_536
MAX_SIGNATURE_WORDS: constant(uint256) = 1_024
# One settlement takes the receipts of so many sellers, in so many words. Every word of a bound
# costs memory in every settlement, and memory grows with the square.
MAX_RECEIPTS: constant(uint256) = 256
MAX_RECEIPT_ROWS: constant(uint256) = 768
MAX_RECEIPT_SIGNATURE_WORDS: constant(uint256) = 512
# Sixteen order hints of 16 bits share a word.
MAX_HINT_WORDS: constant(uint256) = 32
# Opening accounts and crediting deposits cost about 40,000 gas each at most.
MAX_BATCH: constant(uint256) = 128
# More open orders than this would let one account fill the book.
MAX_OPEN: constant(uint256) = 32
# The window of order numbers that may be used out of turn.
NONCE_WINDOW: constant(uint256) = 16

# Price of a slot in which nothing trades.
NO_PRICE: constant(uint256) = 65_535

# Keys of GridParameters.
SESSIONS_PER_DAY: constant(uint256) = 1
GATE_LEAD: constant(uint256) = 2
CLEAR_PERIOD: constant(uint256) = 3
RECEIPT_PERIOD: constant(uint256) = 4
PENALTY: constant(uint256) = 8
MIN_ORDER_WH: constant(uint256) = 9
MAX_SLOT_WH: constant(uint256) = 10
ABANDON_PERIOD: constant(uint256) = 16

# Bits of an order's header that must be zero: mandate, flags but side and profile, the gaps.
HEADER_ZEROS: constant(uint256) = (
    ((2**32 - 1) << 192) | (252 << 128) | (255 << 120) | (2**72 - 1)
)

# Why an order was turned away (event OrderRejected).
UNKNOWN_ACCOUNT: constant(uint256) = 1
MALFORMED: constant(uint256) = 2
EXPIRED: constant(uint256) = 3
ENERGY_BOUND: constant(uint256) = 4
NONCE_USED: constant(uint256) = 5
TOO_MANY_OPEN: constant(uint256) = 6
POOR: constant(uint256) = 7
BAD_SIGNATURE: constant(uint256) = 8
BOOK_FULL: constant(uint256) = 9

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("GridCommons EnergyMarket")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
ORDER_TYPE: constant(bytes32) = keccak256(
    "Order(uint32 account,uint32 mandate,uint16 nonce,uint40 expiry,uint8 side,uint16 limit,uint64 firstSlot,uint8 slots,uint16 wh,bytes32 profile)"
)
RECEIPT_TYPE: constant(bytes32) = keccak256(
    "DeliveryReceipt(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
)
# Half of the order of secp256k1: above it a signature is the malleable twin of another.
MAX_S: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)

# The account word: owner | balance << 160 | nonce base << 208 | nonce bits << 224
#                   | zone << 240 | open orders << 250
BALANCE: constant(uint256) = 160
NONCE_BASE: constant(uint256) = 208
NONCE_BITS: constant(uint256) = 224
ZONE: constant(uint256) = 240
OPEN: constant(uint256) = 250
ADDRESS_MASK: constant(uint256) = 2**160 - 1
# 281 million euro for one account; deposits fill half of it and leave the rest to credits.
MONEY_MASK: constant(uint256) = 2**48 - 1
MAX_DEPOSITED: constant(uint256) = 2**47

# The session word: slots | cleared << 8 | settled << 16 | voided << 24 | orders << 32
#                   | penalty << 48 | rows << 64 | gate << 80
CLEARED: constant(uint256) = 8
SETTLED: constant(uint256) = 16
VOIDED: constant(uint256) = 24
ORDERS: constant(uint256) = 32
PENALTY_RATE: constant(uint256) = 48
ROWS: constant(uint256) = 64
GATE: constant(uint256) = 80

# The clearing word: price | fee << 16 | band minimum << 32 | band maximum << 48
#                    | rationed side << 64 | available << 72 | total << 120 | volume << 168
# where `available` of `total` Wh at the price on the rationed side are filled.
RATIONED: constant(uint256) = 64
AVAILABLE: constant(uint256) = 72
TOTAL: constant(uint256) = 120
VOLUME: constant(uint256) = 168
WH_MASK: constant(uint256) = 2**48 - 1

# Positions of the four sums that the price check packs into one word.
BIDS_ABOVE: constant(uint256) = 0
BIDS_AT: constant(uint256) = 48
ASKS_BELOW: constant(uint256) = 96
ASKS_AT: constant(uint256) = 144


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event AccountOpened:
    account: indexed(uint256)
    owner: indexed(address)
    zone: uint256


event Deposited:
    account: indexed(uint256)
    amount: uint256


event Withdrawn:
    account: indexed(uint256)
    to: indexed(address)
    amount: uint256


event NonceRevoked:
    account: indexed(uint256)
    nonce: uint256


event SessionOpened:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    slots: uint256
    gate: uint256
    penalty: uint256


event OrdersPosted:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    rows: DynArray[uint256, MAX_ROWS]
    running_hash: bytes32


event OrderRejected:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    position: uint256
    account: uint256
    nonce: uint256
    reason: uint256


event SlotCleared:
    zone: indexed(uint256)
    slot: indexed(uint256)
    price: uint256
    volume_wh: uint256


event SlotSettled:
    zone: indexed(uint256)
    slot: indexed(uint256)
    price: uint256
    delivered_wh: uint256
    fees: uint256
    penalties: uint256


event OrdersSettled:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    from_slot: uint256
    slots: uint256
    entries: DynArray[uint256, MAX_ORDERS]


event SessionVoided:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    from_slot: uint256


event ReceiptLodged:
    meter: indexed(uint256)
    first_slot: indexed(uint256)
    exports: DynArray[uint256, 6]
    signature: bytes32[2]


event TreasuryChanged:
    treasury: indexed(address)


event FeesCollected:
    treasury: indexed(address)
    amount: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

TOKEN: immutable(IERC20)
PARAMETERS: immutable(IGridParameters)
REGISTRY: immutable(IMeterRegistry)
LEDGER: immutable(IReadingLedger)

# Tokens held by this contract = balances + escrow + fees due, after every call.
balances: public(uint256)
escrow: public(uint256)
fees_due: public(uint256)
treasury: public(address)

_accounts: HashMap[uint256, uint256]
# session key (zone << 64 | first slot) -> session word, running hash
_sessions: HashMap[uint256, uint256]
running_hashes: public(HashMap[uint256, bytes32])
# zone -> slot -> clearing word
_clearings: HashMap[uint256, HashMap[uint256, uint256]]
# meter -> first slot of the session -> a receipt was lodged on chain
lodged: public(HashMap[uint256, HashMap[uint256, bool]])


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(
    token: address, parameters: address, registry: address, ledger: address, treasury: address
):
    """
    @param token The settlement token: ERC-20 with 6 decimals.
    @param treasury Receives the grid fees.
    """
    assert treasury != empty(address), "market: treasury is zero"
    ownable.__init__()
    TOKEN = IERC20(token)
    PARAMETERS = IGridParameters(parameters)
    REGISTRY = IMeterRegistry(registry)
    LEDGER = IReadingLedger(ledger)
    self.treasury = treasury
    log TreasuryChanged(treasury=treasury)


# ---------------------------------------------------------------------------- #
#                              ACCOUNTS AND MONEY                              #
# ---------------------------------------------------------------------------- #

@external
def open_accounts(meters: DynArray[uint256, MAX_BATCH]):
    """
    @notice Opens the account of each metering point, with owner and zone of the registry.
    @dev Anyone may call: the registry decides what an account says.
    """
    for meter: uint256 in meters:
        owner: address = empty(address)
        zone: uint256 = 0
        owner, zone = staticcall REGISTRY.metering_point(meter)
        assert owner != empty(address), "market: unknown metering point"
        assert self._accounts[meter] == 0, "market: account is open"
        self._accounts[meter] = convert(owner, uint256) | (zone << ZONE)
        log AccountOpened(account=meter, owner=owner, zone=zone)


@external
@nonreentrant
def deposit(accounts: DynArray[uint256, MAX_BATCH], amounts: DynArray[uint256, MAX_BATCH]):
    """
    @notice Pulls tokens from the caller and credits them to accounts, whoever owns those.
    """
    assert len(accounts) == len(amounts), "market: one amount per account"
    total: uint256 = 0
    for i: uint256 in range(len(accounts), bound=MAX_BATCH):
        word: uint256 = self._accounts[accounts[i]]
        assert word != 0, "market: unknown account"
        # A full account could not be credited, and would hold up a settlement.
        self._accounts[accounts[i]] = self._credited(word, amounts[i], MAX_DEPOSITED)
        total += amounts[i]
        log Deposited(account=accounts[i], amount=amounts[i])
    self.balances += total
    held: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        msg.sender, self, total, default_return_value=True
    ), "market: transfer failed"
    # A token that keeps a part for itself would leave balances without cover.
    assert staticcall TOKEN.balanceOf(self) == held + total, "market: token took a fee"


@external
@nonreentrant
def withdraw(account: uint256, amount: uint256, to: address):
    """
    @notice Pays free balance out to `to`. Nothing can stop an owner from doing this.
    """
    word: uint256 = self._owned(account)
    assert amount <= (word >> BALANCE) & MONEY_MASK, "market: balance too low"
    self._accounts[account] = word - (amount << BALANCE)
    self.balances -= amount
    log Withdrawn(account=account, to=to, amount=amount)
    self._pay(to, amount)


@external
def revoke(account: uint256, nonce: uint256):
    """
    @notice Makes a signed but unposted order worthless. What is posted stays posted.
    """
    word: uint256 = self._owned(account)
    assert self._nonce_free(word, nonce), "market: nonce is not free"
    self._accounts[account] = self._with_nonce(word, nonce)
    log NonceRevoked(account=account, nonce=nonce)


@external
def set_treasury(treasury: address):
    """
    @notice Says who receives the grid fees from now on.
    """
    ownable._check_owner()
    assert treasury != empty(address), "market: treasury is zero"
    self.treasury = treasury
    log TreasuryChanged(treasury=treasury)


@external
@nonreentrant
def collect_fees():
    """
    @notice Pays the fees due to the treasury. Anyone may call.
    """
    amount: uint256 = self.fees_due
    self.fees_due = 0
    log FeesCollected(treasury=self.treasury, amount=amount)
    self._pay(self.treasury, amount)


# ---------------------------------------------------------------------------- #
#                                    POSTING                                   #
# ---------------------------------------------------------------------------- #

@external
def post(
    zone: uint256,
    first_slot: uint256,
    rows: DynArray[uint256, MAX_ROWS],
    signatures: DynArray[bytes32, MAX_SIGNATURE_WORDS],
):
    """
    @notice Posts signed orders to the session that starts with `first_slot`. An unusable
            order is turned away alone, with its reason; the rest of the batch goes on.
    @param rows One header word per order, followed by its profile words where it has any:
           account @224, mandate @192, nonce @176, expiry @136, side @128 (0 bid, 1 ask,
           2 profile flag), limit @104, wh @88, offset @80, count @72. Profile words hold 16
           values of 16 bits each, lowest first.
    @param signatures r and the EIP-2098 `yParity and s` of each order in turn. Two zero
           words stand for the caller, where the caller owns the account.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._sessions[key]
    if session == 0:
        session = self._open_session(zone, first_slot)
    assert block.timestamp < session >> GATE, "market: the gate is closed"

    slots: uint256 = session & 255
    penalty: uint256 = (session >> PENALTY_RATE) & 65_535
    orders: uint256 = (session >> ORDERS) & 65_535
    book_rows: uint256 = (session >> ROWS) & 65_535
    running: bytes32 = self.running_hashes[key]
    min_wh: uint256 = staticcall PARAMETERS.value(MIN_ORDER_WH)
    max_wh: uint256 = staticcall PARAMETERS.value(MAX_SLOT_WH)
    separator: bytes32 = self._separator()
    escrowed: uint256 = 0

    i: uint256 = 0
    posted: uint256 = 0
    for n: uint256 in range(MAX_ORDERS):
        if i >= len(rows):
            break
        posted += 1
        header: uint256 = rows[i]
        account: uint256 = header >> 224
        flags: uint256 = (header >> 128) & 255
        limit: uint256 = (header >> 104) & 65_535
        offset: uint256 = (header >> 80) & 255
        count: uint256 = (header >> 72) & 255
        expiry: uint256 = (header >> 136) & (2**40 - 1)
        words: uint256 = 0
        if flags & 2 != 0:
            words = (count + 15) // 16
        first: uint256 = i
        i += 1 + words
        assert i <= len(rows), "market: profile is cut off"

        reason: uint256 = 0
        word: uint256 = self._accounts[account]
        energy: uint256 = 0
        profile: bytes32 = empty(bytes32)
        wh: uint256 = (header >> 88) & 65_535
        # An empty word has zone 0, where no session opens.
        if (word >> ZONE) & 1_023 != zone:
            reason = UNKNOWN_ACCOUNT
        elif (
            header & HEADER_ZEROS != 0
            or count == 0
            or offset + count > slots
            or limit == NO_PRICE
            or (words != 0 and wh != 0)
        ):
            reason = MALFORMED
        elif expiry < block.timestamp:
            reason = EXPIRED
        elif words == 0:
            energy = wh * count
            if wh > max_wh or energy < min_wh:
                reason = ENERGY_BOUND
        else:
            packed: DynArray[uint256, 6] = []
            for j: uint256 in range(words, bound=6):
                values: uint256 = rows[first + 1 + j]
                packed.append(values)
                for k: uint256 in range(16):
                    value: uint256 = values & 65_535
                    values = values >> 16
                    energy += value
                    # A value beyond the last slot of the order would be escrowed for
                    # nothing.
                    if value > max_wh or (value != 0 and 16 * j + k >= count):
                        reason = ENERGY_BOUND
            if energy < min_wh:
                reason = ENERGY_BOUND
            profile = self._hash_words(packed)

        side: uint256 = flags & 1
        nonce: uint256 = (header >> 176) & 65_535
        amount: uint256 = 0
        if reason == 0:
            amount = energy * (penalty if side == 1 else limit)
            if not self._nonce_free(word, nonce):
                reason = NONCE_USED
            elif word >> OPEN >= MAX_OPEN:
                reason = TOO_MANY_OPEN
            elif amount > (word >> BALANCE) & MONEY_MASK:
                reason = POOR
            elif orders >= MAX_ORDERS or book_rows + 1 + words > MAX_ROWS:
                reason = BOOK_FULL
            else:
                r: uint256 = convert(signatures[2 * n], uint256)
                vs: uint256 = convert(signatures[2 * n + 1], uint256)
                signer: address = msg.sender
                if r != 0 or vs != 0:
                    struct_hash: bytes32 = keccak256(
                        abi_encode(
                            ORDER_TYPE,
                            account,
                            empty(uint256),
                            nonce,
                            expiry,
                            side,
                            limit,
                            first_slot + offset,
                            count,
                            wh,
                            profile,
                        )
                    )
                    signer = self._signer(separator, struct_hash, r, vs)
                # The account's owner is never zero, so a failed recovery matches nobody.
                if convert(signer, uint256) != word & ADDRESS_MASK:
                    reason = BAD_SIGNATURE

        if reason != 0:
            log OrderRejected(
                zone=zone,
                first_slot=first_slot,
                position=n,
                account=account,
                nonce=nonce,
                reason=reason,
            )
            continue

        # One more open order; `amount` is covered by the balance, checked above.
        self._accounts[account] = self._with_nonce(word, nonce) - (amount << BALANCE) + (1 << OPEN)
        escrowed += amount
        orders += 1
        book_rows += 1 + words
        for j: uint256 in range(1 + words, bound=7):
            running = keccak256(abi_encode(running, rows[first + j]))

    assert i == len(rows), "market: too many orders"
    assert len(signatures) == 2 * posted, "market: one signature per order"

    self.balances -= escrowed
    self.escrow += escrowed
    self.running_hashes[key] = running
    self._sessions[key] = (
        (session & ~((65_535 << ORDERS) | (65_535 << ROWS))) | (orders << ORDERS) | (book_rows << ROWS)
    )
    log OrdersPosted(zone=zone, first_slot=first_slot, rows=rows, running_hash=running)


# ---------------------------------------------------------------------------- #
#                                   CLEARING                                   #
# ---------------------------------------------------------------------------- #

@external
def clear(
    zone: uint256,
    first_slot: uint256,
    rows: DynArray[uint256, MAX_ROWS],
    prices: DynArray[uint256, MAX_SLOTS],
):
    """
    @notice Clears the next `len(prices)` slots of a session whose gate has closed.
    @param rows All orders of the session, as accepted, in order of arrival.
    @param prices The canonical price of each slot, 65,535 where nothing trades. Any other
           price reverts.
    @dev With D and S the bid and ask energy at effective limits, a price p clears exactly
         when max(D>p, S<p) <= min(D>=p, S<=p). The interval of clearing prices reaches down
         to `below`, the highest limit under p, if D>=p == S<p, and up to `above`, the lowest
         limit over p, if D>p == S<=p; the canonical price is its midpoint, rounded down.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._live_session_word(key)
    gate: uint256 = session >> GATE
    assert block.timestamp >= gate, "market: the gate is open"
    assert (
        block.timestamp <= gate + staticcall PARAMETERS.value_at(CLEAR_PERIOD, gate)
    ), "market: too late to clear"
    start: uint256 = (session >> CLEARED) & 255
    slots: uint256 = len(prices)
    stop: uint256 = start + slots
    assert slots != 0 and stop <= session & 255, "market: slots out of range"
    # The running hash took in every accepted word in turn, so it matches only the whole book in
    # its order.
    running: bytes32 = empty(bytes32)
    for row: uint256 in rows:
        running = keccak256(abi_encode(running, row))
    assert running == self.running_hashes[key], "market: not the session's orders"

    terms: DynArray[uint256, MAX_SLOTS] = staticcall PARAMETERS.market_terms(
        zone, first_slot + start, slots, gate
    )
    sums: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    # Highest limit under the price, plus one so that 0 means none; where no price is
    # claimed, the highest bid.
    below: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    # 65,535 minus the lowest limit over the price, so that 0 means none; where no price is
    # claimed, the lowest ask.
    above: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])

    i: uint256 = 0
    for n: uint256 in range(MAX_ORDERS):
        if i >= len(rows):
            break
        header: uint256 = rows[i]
        flags: uint256 = (header >> 128) & 255
        limit: uint256 = (header >> 104) & 65_535
        wh: uint256 = (header >> 88) & 65_535
        offset: uint256 = (header >> 80) & 255
        count: uint256 = (header >> 72) & 255
        is_ask: bool = flags & 1 == 1
        is_profile: bool = flags & 2 == 2
        low: uint256 = max(offset, start)
        high: uint256 = min(unsafe_add(offset, count), stop)
        # Unchecked: a position in the rows.
        i = unsafe_add(i, 1)
        first: uint256 = i
        if is_profile:
            i = unsafe_add(i, unsafe_add(count, 15) >> 4)
        if low >= high:
            continue
        for slot: uint256 in range(low, high, bound=MAX_SLOTS):
            # Unchecked: energy stays below 512 * 65,535 Wh, and slot >= offset, start.
            if is_profile:
                wh = (rows[unsafe_add(first, unsafe_sub(slot, offset) >> 4)]
                    >> ((unsafe_sub(slot, offset) & 15) << 4)) & 65_535
                if wh == 0:
                    continue
            k: uint256 = unsafe_sub(slot, start)
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

            price: uint256 = prices[k]
            if price == NO_PRICE:
                if is_ask:
                    above[k] = max(above[k], unsafe_sub(NO_PRICE, effective))
                else:
                    below[k] = max(below[k], unsafe_add(effective, 1))
            elif effective == price:
                if is_ask:
                    sums[k] = unsafe_add(sums[k], wh << ASKS_AT)
                else:
                    sums[k] = unsafe_add(sums[k], wh << BIDS_AT)
            elif effective < price:
                below[k] = max(below[k], unsafe_add(effective, 1))
                if is_ask:
                    sums[k] = unsafe_add(sums[k], wh << ASKS_BELOW)
            else:
                above[k] = max(above[k], unsafe_sub(NO_PRICE, effective))
                if not is_ask:
                    # BIDS_ABOVE sits at bit 0.
                    sums[k] = unsafe_add(sums[k], wh)

    for k: uint256 in range(slots, bound=MAX_SLOTS):
        term: uint256 = terms[k]
        price: uint256 = prices[k]
        volume: uint256 = 0
        clearing: uint256 = price | ((term & 65_535) << 16) | ((term >> 16) << 32)
        if price == NO_PRICE:
            # No trade: the highest bid, if any, lies under the lowest ask, if any.
            if below[k] != 0 and above[k] != 0:
                assert below[k] - 1 < NO_PRICE - above[k], "market: orders cross"
        else:
            bids_above: uint256 = sums[k] & WH_MASK
            bids_at: uint256 = (sums[k] >> BIDS_AT) & WH_MASK
            asks_below: uint256 = (sums[k] >> ASKS_BELOW) & WH_MASK
            asks_at: uint256 = sums[k] >> ASKS_AT
            demand: uint256 = bids_above + bids_at
            supply: uint256 = asks_below + asks_at
            volume = min(demand, supply)
            assert volume != 0, "market: nothing trades here"
            assert max(bids_above, asks_below) <= volume, "market: price does not clear"
            low: uint256 = price
            high: uint256 = price
            # Both sums hold energy here, so the neighbour that is read exists.
            if demand == asks_below:
                low = below[k] - 1
            if supply == bids_above:
                high = NO_PRICE - above[k]
            assert price == (low + high) // 2, "market: price is not canonical"
            if volume < demand:
                # Bids at the price share what the better bids leave.
                clearing |= ((volume - bids_above) << AVAILABLE) | (bids_at << TOTAL)
            else:
                clearing |= (
                    (1 << RATIONED) | ((volume - asks_below) << AVAILABLE) | (asks_at << TOTAL)
                )
            clearing |= volume << VOLUME
        self._clearings[zone][first_slot + start + k] = clearing
        log SlotCleared(
            zone=zone, slot=first_slot + start + k, price=price, volume_wh=volume
        )

    self._sessions[key] = session + (slots << CLEARED)


@external
def void(zone: uint256, first_slot: uint256):
    """
    @notice Voids what was not cleared in time; what was cleared stays.
            The escrow comes back when the session is settled.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._live_session_word(key)
    gate: uint256 = session >> GATE
    assert (session >> CLEARED) & 255 < session & 255, "market: session is cleared"
    assert (
        block.timestamp > gate + staticcall PARAMETERS.value_at(CLEAR_PERIOD, gate)
    ), "market: can still be cleared"
    self._sessions[key] = session | (1 << VOIDED)
    log SessionVoided(
        zone=zone, first_slot=first_slot, from_slot=first_slot + ((session >> CLEARED) & 255)
    )


@external
def abandon(zone: uint256, first_slot: uint256):
    """
    @notice Voids what was cleared but could not be settled for so long that it never will,
            for example because the zone's readings were never committed. Nobody pays.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._session_word(key)
    settled: uint256 = (session >> SETTLED) & 255
    assert settled < (session >> CLEARED) & 255, "market: nothing to abandon"
    end: uint256 = (first_slot + (session & 255)) * SLOT_SECONDS
    assert (
        block.timestamp > end + staticcall PARAMETERS.value_at(ABANDON_PERIOD, session >> GATE)
    ), "market: can still be settled"
    self._sessions[key] = (
        (session & ~convert(255 << CLEARED, uint256)) | (settled << CLEARED) | (1 << VOIDED)
    )
    log SessionVoided(zone=zone, first_slot=first_slot, from_slot=first_slot + settled)


# ---------------------------------------------------------------------------- #
#                                  SETTLEMENT                                  #
# ---------------------------------------------------------------------------- #

@external
def lodge_receipt(
    meter: uint256,
    first_slot: uint256,
    exports: DynArray[uint256, 6],
    signature: bytes32[2],
):
    """
    @notice Puts it on record that a meter's receipt exists, so that nobody can settle late
            as if it were missing. Only needed where someone else's receipt is outstanding.
    """
    zone: uint256 = self._accounts[meter] >> ZONE & 1_023
    session: uint256 = self._session_word(self._session_key(zone, first_slot))
    slots: uint256 = session & 255
    # Before the end the key may still change, and the lodged receipt would be worth nothing
    # but could not be left out either.
    self._check_delivered(first_slot, slots)
    assert len(exports) == (slots + 15) // 16, "market: receipt is cut off"
    self._check_receipt(
        self._separator(),
        staticcall REGISTRY.device_at(meter, (first_slot + slots) * SLOT_SECONDS - 1),
        meter,
        first_slot,
        slots,
        exports,
        signature[0],
        signature[1],
    )
    self.lodged[meter][first_slot] = True
    # With all that settling needs: whoever settles must be able to find it.
    log ReceiptLodged(meter=meter, first_slot=first_slot, exports=exports, signature=signature)


@external
def settle(
    zone: uint256,
    first_slot: uint256,
    slots: uint256,
    rows: DynArray[uint256, MAX_ROWS],
    receipts: DynArray[uint256, MAX_RECEIPT_ROWS],
    signatures: DynArray[bytes32, MAX_RECEIPT_SIGNATURE_WORDS],
    hints: DynArray[uint256, MAX_HINT_WORDS],
):
    """
    @notice Settles the next `slots` slots of a session: sellers are paid for what their
            meters proved, buyers get the rest of their escrow back, and a shortfall is paid
            from the seller's collateral to the buyers it hit.
    @param rows All orders of the session, as accepted, in order of arrival.
    @param receipts One meter number per receipt, rising, each followed by the meter's export
           per slot of the whole session, 16 values of 16 bits a word.
    @param signatures r and `yParity and s` of the device's signature, per receipt.
    @param hints For order i the 16 bits at 16 * (i % 16) of word i // 16: the position of
           its receipt, counted from 1, or 0 for none.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._session_word(key)
    start: uint256 = (session >> SETTLED) & 255
    stop: uint256 = start + slots
    voided: bool = (session >> VOIDED) & 1 == 1
    cleared: uint256 = (session >> CLEARED) & 255
    assert slots != 0, "market: slots out of range"
    assert stop <= (session & 255 if voided else cleared), "market: slots are not cleared"
    # The running hash took in every accepted word in turn, so it matches only the whole book in
    # its order.
    running: bytes32 = empty(bytes32)
    for row: uint256 in rows:
        running = keccak256(abi_encode(running, row))
    assert running == self.running_hashes[key], "market: not the session's orders"

    # What the sellers owe and the prices that hold; a void slot has none.
    clearings: DynArray[uint256, MAX_SLOTS] = []
    trades: bool = False
    for slot: uint256 in range(start, stop, bound=MAX_SLOTS):
        clearing: uint256 = NO_PRICE
        if slot < cleared:
            clearing = self._clearings[zone][first_slot + slot]
        if clearing & 65_535 != NO_PRICE:
            trades = True
        clearings.append(clearing)

    end: uint256 = (first_slot + (session & 255)) * SLOT_SECONDS
    # Until then every filled ask needs its receipt.
    receipts_due: bool = False
    exports: DynArray[uint256, MAX_SLOTS] = []
    if trades:
        self._check_delivered(first_slot, session & 255)
        assert (
            staticcall LEDGER.committed_until(zone) >= first_slot + stop
        ), "market: readings not committed"
        exports = staticcall LEDGER.totals(zone, first_slot + start, slots)
        receipts_due = block.timestamp <= end + staticcall PARAMETERS.value_at(
            RECEIPT_PERIOD, session >> GATE
        )

    receipt_words: uint256 = 1 + ((session & 255) + 15) // 16
    # Lanes are used up as asks are served: the same energy is never sold twice.
    left: DynArray[uint256, MAX_RECEIPT_ROWS] = receipts
    receipt_count: uint256 = len(receipts) // receipt_words
    assert len(receipts) == receipt_count * receipt_words, "market: receipt is cut off"
    assert len(signatures) == 2 * receipt_count, "market: one signature a receipt"
    meters: DynArray[uint256, MAX_RECEIPTS] = []
    for n: uint256 in range(receipt_count, bound=MAX_RECEIPTS):
        meter: uint256 = receipts[n * receipt_words]
        # Rising numbers: a meter has one receipt, or it could sell its energy twice.
        if n != 0:
            assert meter > meters[n - 1], "market: receipts out of order"
        meters.append(meter)
    if receipt_count != 0:
        devices: DynArray[address, MAX_RECEIPTS] = staticcall REGISTRY.devices_at(meters, end - 1)
        separator: bytes32 = self._separator()
        for n: uint256 in range(receipt_count, bound=MAX_RECEIPTS):
            packed: DynArray[uint256, 6] = []
            for j: uint256 in range(receipt_words - 1, bound=6):
                packed.append(receipts[n * receipt_words + 1 + j])
            self._check_receipt(
                separator,
                devices[n],
                meters[n],
                first_slot,
                session & 255,
                packed,
                signatures[2 * n],
                signatures[2 * n + 1],
            )

    delivered: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    missing: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    # Running sums: energy at the price on the rationed side, then energy filled over bids.
    at_price: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    filled_before: uint256[MAX_SLOTS] = empty(uint256[MAX_SLOTS])
    penalty: uint256 = (session >> PENALTY_RATE) & 65_535
    closes: bool = stop == session & 255
    entries: DynArray[uint256, MAX_ORDERS] = []
    released: uint256 = 0
    credited: uint256 = 0
    fees: uint256 = 0

    # Asks first: what the buyers share is known only when every seller was heard.
    for pass_: uint256 in range(2):
        i: uint256 = 0
        for n: uint256 in range(MAX_ORDERS):
            if i >= len(rows):
                break
            header: uint256 = rows[i]
            flags: uint256 = (header >> 128) & 255
            offset: uint256 = (header >> 80) & 255
            count: uint256 = (header >> 72) & 255
            is_profile: bool = flags & 2 == 2
            # Unchecked: a position in the rows.
            i = unsafe_add(i, 1)
            first: uint256 = i
            if is_profile:
                i = unsafe_add(i, unsafe_add(count, 15) >> 4)
            is_ask: bool = flags & 1 == 1
            if is_ask == (pass_ == 1):
                continue
            limit: uint256 = (header >> 104) & 65_535
            wh: uint256 = (header >> 88) & 65_535
            low: uint256 = max(offset, start)
            high: uint256 = min(unsafe_add(offset, count), stop)

            energy: uint256 = 0
            filled: uint256 = 0
            got: uint256 = 0
            money: uint256 = 0
            short: uint256 = 0
            compensation: uint256 = 0
            lanes: uint256 = 0
            if is_ask:
                hint: uint256 = (hints[n // 16] >> (16 * (n % 16))) & 65_535
                if hint != 0:
                    lanes = (hint - 1) * receipt_words
                    assert left[lanes] == header >> 224, "market: receipt of another meter"
                    lanes += 1

            # Unchecked below: a slot's energy stays under 2**25 Wh and prices and rates under
            # 2**16, so that no product reaches 2**70; slot >= offset and start, a share is
            # never more than the whole, and a lane holds what is taken from it.
            if low < high:
                for slot: uint256 in range(low, high, bound=MAX_SLOTS):
                    if is_profile:
                        wh = (
                            rows[unsafe_add(first, unsafe_sub(slot, offset) >> 4)]
                    >> ((unsafe_sub(slot, offset) & 15) << 4)
                        ) & 65_535
                    energy = unsafe_add(energy, wh)
                    k: uint256 = unsafe_sub(slot, start)
                    clearing: uint256 = clearings[k]
                    price: uint256 = clearing & 65_535
                    if price == NO_PRICE:
                        continue
                    effective: uint256 = 0
                    if is_ask:
                        if limit > (clearing >> 48) & 65_535:
                            continue
                        effective = max(limit, (clearing >> 32) & 65_535)
                        if effective > price:
                            continue
                    else:
                        fee: uint256 = (clearing >> 16) & 65_535
                        if limit < fee + ((clearing >> 32) & 65_535):
                            continue
                        effective = min(limit - fee, (clearing >> 48) & 65_535)
                        if effective < price:
                            continue
                    fill: uint256 = wh
                    if effective == price and is_ask == ((clearing >> RATIONED) & 1 == 1):
                        available: uint256 = (clearing >> AVAILABLE) & WH_MASK
                        total: uint256 = (clearing >> TOTAL) & WH_MASK
                        before: uint256 = at_price[k]
                        at_price[k] = unsafe_add(before, wh)
                        fill = unsafe_sub(
                            unsafe_mul(unsafe_add(before, wh), available) // total,
                            unsafe_mul(before, available) // total,
                        )
                    filled = unsafe_add(filled, fill)

                    if is_ask:
                        share: uint256 = 0
                        if lanes != 0:
                            lane: uint256 = lanes + (slot >> 4)
                            position: uint256 = (slot & 15) << 4
                            share = min(fill, (left[lane] >> position) & 65_535)
                            left[lane] = unsafe_sub(left[lane], share << position)
                        short = unsafe_add(short, unsafe_sub(fill, share))
                        missing[k] = unsafe_add(missing[k], unsafe_sub(fill, share))
                        # No more is sold than the zone exported, whatever the devices claim.
                        # First come, first served, and what is cut is not paid but not
                        # penalised either: one false receipt can neither stop the others'
                        # settlement nor cost them more than the energy it claims.
                        share = min(share, unsafe_sub(exports[k] >> 32, delivered[k]))
                        got = unsafe_add(got, share)
                        money = unsafe_add(money, unsafe_mul(share, price))
                        delivered[k] = unsafe_add(delivered[k], share)
                    else:
                        before: uint256 = filled_before[k]
                        after: uint256 = unsafe_add(before, fill)
                        filled_before[k] = after
                        volume: uint256 = clearing >> VOLUME
                        share: uint256 = unsafe_sub(
                            unsafe_mul(after, delivered[k]) // volume,
                            unsafe_mul(before, delivered[k]) // volume,
                        )
                        got = unsafe_add(got, share)
                        money = unsafe_add(
                            money, unsafe_mul(share, unsafe_add(price, (clearing >> 16) & 65_535))
                        )
                        due: uint256 = unsafe_mul(missing[k], penalty)
                        compensation = unsafe_add(
                            compensation,
                            unsafe_sub(
                                unsafe_mul(after, due) // volume, unsafe_mul(before, due) // volume
                            ),
                        )

            account: uint256 = header >> 224
            held: uint256 = energy * (penalty if is_ask else limit)
            credit: uint256 = 0
            if is_ask:
                if lanes == 0 and filled != 0:
                    assert not receipts_due, "market: a receipt is outstanding"
                    assert not self.lodged[account][first_slot], "market: receipt was lodged"
                # The collateral less the penalty on what was filled but not delivered.
                credit = held + money - short * penalty
            else:
                # An order pays at most its limit, so this cannot fall below zero.
                credit = held - money + compensation
            released += held
            credited += credit
            word: uint256 = self._credited(self._accounts[account], credit, MONEY_MASK)
            if closes:
                word -= 1 << OPEN
            self._accounts[account] = word
            entries.append(
                (account << 224) | ((flags & 1) << 216) | (got << 168) | (filled << 120) | credit
            )

    for k: uint256 in range(slots, bound=MAX_SLOTS):
        clearing: uint256 = clearings[k]
        price: uint256 = clearing & 65_535
        slot_fees: uint256 = 0
        if price != NO_PRICE:
            slot_fees = delivered[k] * ((clearing >> 16) & 65_535)
            fees += slot_fees
        log SlotSettled(
            zone=zone,
            slot=first_slot + start + k,
            price=price,
            delivered_wh=delivered[k],
            fees=slot_fees,
            penalties=missing[k] * penalty,
        )

    # What leaves the escrow arrives, to the last unit.
    assert credited + fees == released, "market: money is not conserved"
    self.escrow -= released
    self.balances += credited
    self.fees_due += fees
    self._sessions[key] = session + (slots << SETTLED)
    log OrdersSettled(
        zone=zone,
        first_slot=first_slot,
        from_slot=first_slot + start,
        slots=slots,
        entries=entries,
    )


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def account(number: uint256) -> (address, uint256, uint256, uint256, uint256, uint256):
    """
    @return Owner, free balance, zone, open orders, nonce base, and the bitmap of used
            nonces, bit i for base + i.
    """
    word: uint256 = self._accounts[number]
    return (
        convert(word & ADDRESS_MASK, address),
        (word >> BALANCE) & MONEY_MASK,
        (word >> ZONE) & 1_023,
        word >> OPEN,
        (word >> NONCE_BASE) & 65_535,
        (word >> NONCE_BITS) & 65_535,
    )


@view
@external
def session(
    zone: uint256, first_slot: uint256
) -> (uint256, uint256, uint256, uint256, uint256, uint256, bool):
    """
    @return Slots, gate (unix time), slots cleared, slots settled, orders, penalty per Wh,
            and whether the rest is void. All zero where nothing was posted.
    """
    word: uint256 = self._sessions[(zone << 64) | first_slot]
    return (
        word & 255,
        word >> GATE,
        (word >> CLEARED) & 255,
        (word >> SETTLED) & 255,
        (word >> ORDERS) & 65_535,
        (word >> PENALTY_RATE) & 65_535,
        (word >> VOIDED) & 1 == 1,
    )


@view
@external
def clearing(zone: uint256, slot: uint256) -> (uint256, uint256, uint256):
    """
    @return Price (65,535: nothing traded), grid fee, and volume in Wh of a cleared slot.
    """
    word: uint256 = self._clearings[zone][slot]
    return word & 65_535, (word >> 16) & 65_535, word >> VOLUME


@view
@external
def contracts() -> (address, address, address, address):
    """
    @return Settlement token, parameters, meter registry, reading ledger.
    """
    return TOKEN.address, PARAMETERS.address, REGISTRY.address, LEDGER.address


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _open_session(zone: uint256, first_slot: uint256) -> uint256:
    """
    @dev Length, gate and penalty are those of 24 hours before the session's day, so that
         an order can be signed for a session whose shape no later vote can move.
    """
    day: uint256 = first_slot * SLOT_SECONDS // DAY_SECONDS * DAY_SECONDS
    announced: uint256 = day - DAY_SECONDS
    # Not in that very second: a rule may still change in it.
    assert block.timestamp > announced, "market: too early to post"
    # The number of sessions divides 24: the parameters take no other.
    slots: uint256 = 96 // staticcall PARAMETERS.value_at(SESSIONS_PER_DAY, announced)
    assert first_slot % slots == 0, "market: no session starts here"
    gate: uint256 = first_slot * SLOT_SECONDS - staticcall PARAMETERS.value_at(GATE_LEAD, announced)
    penalty: uint256 = staticcall PARAMETERS.value_at(PENALTY, announced)
    assert zone != 0 and zone <= 1_023, "market: zone out of range"
    assert penalty <= 65_535, "market: penalty out of range"
    log SessionOpened(zone=zone, first_slot=first_slot, slots=slots, gate=gate, penalty=penalty)
    return slots | (penalty << PENALTY_RATE) | (gate << GATE)


@view
@internal
def _check_delivered(first_slot: uint256, slots: uint256):
    assert (
        block.timestamp >= (first_slot + slots) * SLOT_SECONDS
    ), "market: delivery is not over"


@view
@internal
def _check_receipt(
    separator: bytes32,
    device: address,
    meter: uint256,
    first_slot: uint256,
    slots: uint256,
    exports: DynArray[uint256, 6],
    r: bytes32,
    vs: bytes32,
):
    struct_hash: bytes32 = keccak256(
        abi_encode(RECEIPT_TYPE, meter, first_slot, slots, self._hash_words(exports))
    )
    signer: address = self._signer(
        separator, struct_hash, convert(r, uint256), convert(vs, uint256)
    )
    # Where no key is in force the device is zero, as is a failed recovery.
    assert signer != empty(address) and signer == device, "market: not the device's receipt"


@pure
@internal
def _hash_words(words: DynArray[uint256, 6]) -> bytes32:
    """
    @return The hash of the words one after another, as EIP-712 hashes an array of uint256.
    """
    encoded: Bytes[256] = abi_encode(words)
    # abi_encode puts the offset and the length first.
    return keccak256(slice(encoded, 64, 32 * len(words)))


@view
@internal
def _separator() -> bytes32:
    """
    @dev Computed for each batch, not kept: it follows a fork of the chain, and the code has
         no room for the general module's cached strings.
    """
    return keccak256(abi_encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain.id, self))


@pure
@internal
def _signer(separator: bytes32, struct_hash: bytes32, r: uint256, vs: uint256) -> address:
    """
    @return Who signed the EIP-712 message, or zero where the signature is none.
    """
    s: uint256 = vs & (2**255 - 1)
    if s > MAX_S:
        return empty(address)
    digest: bytes32 = keccak256(concat(b"\x19\x01", separator, struct_hash))
    return ecrecover(digest, 27 + (vs >> 255), r, s)


@internal
def _pay(to: address, amount: uint256):
    assert extcall TOKEN.transfer(to, amount, default_return_value=True), "market: transfer failed"


@view
@internal
def _owned(account: uint256) -> uint256:
    """
    @return The account word, where the caller owns the account.
    """
    word: uint256 = self._accounts[account]
    assert convert(word & ADDRESS_MASK, address) == msg.sender, "market: caller is not the owner"
    return word


@pure
@internal
def _session_key(zone: uint256, first_slot: uint256) -> uint256:
    """
    @dev Wider numbers would fold onto the key of another session: orders could join a book
         under a name where nobody looks for them.
    """
    assert (zone | first_slot) < 2**64, "market: no such session"
    return (zone << 64) | first_slot


@view
@internal
def _session_word(key: uint256) -> uint256:
    word: uint256 = self._sessions[key]
    assert word != 0, "market: no such session"
    return word


@view
@internal
def _live_session_word(key: uint256) -> uint256:
    word: uint256 = self._session_word(key)
    assert (word >> VOIDED) & 1 == 0, "market: session is void"
    return word


@pure
@internal
def _credited(word: uint256, amount: uint256, most: uint256) -> uint256:
    """
    @return The account word with `amount` more balance, which makes `most` at most.
    """
    assert ((word >> BALANCE) & MONEY_MASK) + amount <= most, "market: balance too large"
    return word + (amount << BALANCE)


@pure
@internal
def _nonce_free(word: uint256, nonce: uint256) -> bool:
    """
    @dev Numbers wrap at 65,536: an order names its slots, so it cannot come back after
         its gate, long before its number does.
    """
    if nonce > 65_535:
        return False
    distance: uint256 = (nonce + 65_536 - ((word >> NONCE_BASE) & 65_535)) & 65_535
    return distance < NONCE_WINDOW and (word >> (NONCE_BITS + distance)) & 1 == 0


@pure
@internal
def _with_nonce(word: uint256, nonce: uint256) -> uint256:
    """
    @return The account word with the free nonce marked as used; the window moves past every
            number that is used up.
    """
    base: uint256 = (word >> NONCE_BASE) & 65_535
    bits: uint256 = (word >> NONCE_BITS) & 65_535
    bits |= 1 << ((nonce + 65_536 - base) & 65_535)
    for i: uint256 in range(NONCE_WINDOW):
        if bits & 1 == 0:
            break
        bits = bits >> 1
        base = (base + 1) & 65_535
    cleared: uint256 = word & ~((65_535 << NONCE_BASE) | (65_535 << NONCE_BITS))
    return cleared | (base << NONCE_BASE) | (bits << NONCE_BITS)
