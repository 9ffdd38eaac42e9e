# pragma version ~=0.4.3
# pragma optimize codesize
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Energy market
@notice Homes behind one transformer sell each other energy by the quarter-hour. This contract
        holds their accounts, takes their signed orders and keeps the books. What a book comes
        to, and what a settlement pays, is worked out by `UniformPriceAuction`, the one contract
        that may tell this one.

          post ... post | gate |  clear  |  delivery  |  receipts, commit  |  settle
          escrow taken           price                                        escrow released

@dev How it stays cheap without trusting whoever submits:

     - Orders are not stored. Accepted orders are cut into pages of at most 64 words, and every
       page is folded into the book's hash and logged. Clearing and settling bring the words
       back in calldata and must arrive at that hash, so none can be dropped, changed, doubled
       or moved.
     - An order costs one storage word: its account's, which holds owner, balance, numbers used
       and the count of open orders.
     - Vyper copies dynamic arguments to memory and places the frames of called functions below
       their caller's. So `post` has no variable of its own, and what it calls reads the
       calldata: memory is paid for what a batch holds, not for what it might.

     Energy is in Wh, prices are in micro euro per Wh, money is in token units (1e-6 euro), so
     that Wh times price is money, exactly.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IGridParameters
from interfaces import IMeterRegistry

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
# Two entries of a settlement share a word.
MAX_ENTRY_WORDS: constant(uint256) = 256
MAX_ENTRY_BYTES: constant(uint256) = 8_192
MAX_ROWS: constant(uint256) = 1_024
# One batch: 512 one-slot orders, or a hundred with a value for each quarter-hour of a day.
MAX_BATCH_WORDS: constant(uint256) = 2_048
# Opening accounts and crediting deposits cost about 40,000 gas each at most.
MAX_BATCH: constant(uint256) = 128
# More open orders than this would let one account fill the book.
MAX_OPEN: constant(uint256) = 32
# The window of order numbers that may be used out of turn.
NONCE_WINDOW: constant(uint256) = 16

# The rule in GridParameters that is not one of a session's terms.
ABANDON_PERIOD: constant(uint256) = 16

# Price of a slot in which nothing trades.
NO_PRICE: constant(uint256) = 65_535

# The header of an order: account @224 | mandate @192 | nonce @176 | expiry @136 | flags @128
#                         | limit @104 | wh @88 | offset @80 | count @72
ASK: constant(uint256) = 1 << 128
PROFILE: constant(uint256) = 2 << 128
MANDATE: constant(uint256) = (2**32 - 1) << 192
# Who vouches for the order instead of a signature of two words.
WALLET: constant(uint256) = 4 << 128
CALLER: constant(uint256) = 8 << 128
# Bits that must be zero.
HEADER_ZEROS: constant(uint256) = (240 << 128) | (255 << 120) | (2**72 - 1)
# What an owner's flat order, signed with a key, has none of.
SPECIAL: constant(uint256) = (
    MANDATE | PROFILE | WALLET | CALLER | HEADER_ZEROS
)

# A profile word seen as eight lanes of 32 bits, each with one of its values in the low half.
# One, the low half and the highest bit of each lane.
LANES: constant(uint256) = max_value(uint256) // (2**32 - 1)
EVEN_LANES: constant(uint256) = LANES * 65_535
LANE_TOPS: constant(uint256) = LANES * 2**31

# Why an order was turned away (event OrderRejected).
UNKNOWN_ACCOUNT: constant(uint256) = 1
MALFORMED: constant(uint256) = 2
EXPIRED: constant(uint256) = 3
ENERGY_BOUND: constant(uint256) = 4
NONCE_USED: constant(uint256) = 5
TOO_MANY_OPEN: constant(uint256) = 6
POOR: constant(uint256) = 7
BAD_SIGNATURE: constant(uint256) = 8
NO_MANDATE: constant(uint256) = 9
BEYOND_MANDATE: constant(uint256) = 10

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("GridCommons EnergyMarket")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
ORDER_TYPE: constant(bytes32) = keccak256(
    "Order(uint32 account,uint32 mandate,uint16 nonce,uint40 expiry,uint8 side,uint16 limit,uint64 firstSlot,uint8 slots,uint16 wh,bytes32 profile)"
)
WITHDRAWAL_TYPE: constant(bytes32) = keccak256(
    "Withdrawal(uint32 account,uint16 nonce,uint48 amount,address to,uint40 deadline)"
)
REVOCATION_TYPE: constant(bytes32) = keccak256("Revocation(uint32 account,uint16 nonce)")
MANDATE_TYPE: constant(bytes32) = keccak256(
    "Mandate(uint32 account,uint32 number,address agent,uint8 side,uint16 limit,uint16 dailyCap,uint16 lastDay)"
)
MANDATE_END_TYPE: constant(bytes32) = keccak256("MandateEnd(uint32 account,uint32 number)")
# Half of the order of secp256k1: above it a signature is the malleable twin of another.
MAX_S: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
LOW_255: constant(uint256) = 2**255 - 1
# What a contract wallet may spend on checking a signature: several owners, or a passkey by the
# precompile of EIP-7951. Less than this left to give is the relay's fault, not the order's.
WALLET_GAS: constant(uint256) = 100_000
# EIP-150 keeps back a sixty-fourth, and the call and what follows it cost something too.
WALLET_RESERVE: constant(uint256) = 110_000
# What a contract wallet answers when it agrees: bytes4(0x1626ba7e), padded on the right.
MAGIC_VALUE: constant(uint256) = 371_636_862 << 224
# A wallet's signature in a batch takes sixteen words, whatever its length.
MAX_WALLET_SIGNATURE: constant(uint256) = 512

# The account word: owner | balance << 160 | nonce base << 208 | nonce bits << 224
#                   | zone << 240 | open orders << 250
BALANCE: constant(uint256) = 160
NONCE_BASE: constant(uint256) = 208
NONCE_BITS: constant(uint256) = 224
ZONE: constant(uint256) = 240
OPEN: constant(uint256) = 250
# Of the bits from ZONE on: the zone, and the highest one, which is set from 32 open orders on.
ZONE_AND_FULL: constant(uint256) = 1_023 | (MAX_OPEN << (OPEN - ZONE))
ADDRESS_MASK: constant(uint256) = 2**160 - 1
# 281 million euro for one account; deposits fill half of it and leave the rest to credits.
MONEY_MASK: constant(uint256) = 2**48 - 1
MAX_DEPOSITED: constant(uint256) = 2**47

# The session word: slots | cleared << 8 | settled << 16 | voided << 24 | penalty << 32
#                   | minimum Wh << 48 | maximum Wh << 64 | gate << 80
CLEARED: constant(uint256) = 8
SETTLED: constant(uint256) = 16
VOIDED: constant(uint256) = 24
PENALTY_RATE: constant(uint256) = 32
MIN_WH: constant(uint256) = 48
MAX_WH: constant(uint256) = 64
GATE: constant(uint256) = 80

# The book word: the upper 232 bits of the hash | words << 12 | orders
BOOK_ROWS: constant(uint256) = 12
COUNT_MASK: constant(uint256) = 2**12 - 1
HASH_MASK: constant(uint256) = max_value(uint256) ^ (2**24 - 1)

# The mandate word: agent | cents committed << 160 | daily cap << 176 | last used << 188
#                   | side << 191 | last day << 192 | nonce base << 208 | nonce bits << 224
#                   | price limit << 240
# The cap counts ten cents, the day of last use is the last three bits of its number: after
# eight idle days to the day, what was committed then counts once more.
COMMITTED: constant(uint256) = 160
DAILY_CAP: constant(uint256) = 176
LAST_USED: constant(uint256) = 188
MANDATE_SIDE: constant(uint256) = 191
LAST_DAY: constant(uint256) = 192
PRICE_LIMIT: constant(uint256) = 240
NOT_TODAY: constant(uint256) = max_value(uint256) ^ ((65_535 << COMMITTED) | (7 << LAST_USED))
# What a mandate that ended leaves behind, so that its orders cannot come back with a new one.
ENDED: constant(uint256) = 1 << COMMITTED
CENT: constant(uint256) = 10_000

# The credits of a settlement's two entries in a word.
CREDITS: constant(uint256) = MONEY_MASK | (MONEY_MASK << 128)

# Long enough to find a fault and to vote on what follows from it.
PAUSE_SECONDS: constant(uint256) = 3 * 86_400
# The pause word: guardian | from << 160 | until << 200
PAUSED_FROM: constant(uint256) = 160
PAUSED_UNTIL: constant(uint256) = 200
TIME_MASK: constant(uint256) = 2**40 - 1


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

struct Mandate:
    agent: address
    # 0 the agent may buy, 1 it may sell.
    side: uint256
    # Highest limit of a bid, lowest of an ask.
    limit: uint256
    # Ten cents a UTC day, counted on what the orders put in escrow, each rounded up to a cent.
    daily_cap: uint256
    # The last UTC day (unix time // 86,400) on which its orders can be posted.
    last_day: uint256


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


event MandateGranted:
    account: indexed(uint256)
    number: indexed(uint256)
    agent: indexed(address)
    terms: Mandate


event MandateEnded:
    account: indexed(uint256)
    number: indexed(uint256)


event SessionOpened:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    slots: uint256
    gate: uint256
    penalty: uint256


event OrdersPosted:
    # zone << 64 | first slot
    session: indexed(uint256)
    # One page of the book: 64, 32, 16, 8, 4, 2 or 1 words.
    page: Bytes[2048]


event OrderRejected:
    session: indexed(uint256)
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
    # Sixteen bytes an order, in order of arrival: account:4, delivered Wh:3, filled Wh:3,
    # credit:6.
    entries: Bytes[MAX_ENTRY_BYTES]


event AdjustmentRecorded:
    zone: indexed(uint256)
    slot: indexed(uint256)
    account: indexed(uint256)
    # Energy taken back, and the money given back for it.
    wh: uint256
    amount: uint256
    # To whom: account << 224 | amount.
    credits: DynArray[uint256, MAX_ORDERS]


event SessionVoided:
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    from_slot: uint256


event TreasuryChanged:
    treasury: indexed(address)


event FeesCollected:
    treasury: indexed(address)
    amount: uint256


event GuardianChanged:
    guardian: indexed(address)


event Paused:
    until: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

TOKEN: immutable(IERC20)
PARAMETERS: immutable(IGridParameters)
REGISTRY: immutable(IMeterRegistry)

# Works out prices and settlements; set once, before the first order.
auction: public(address)
# Works out who gives back what when a meter takes back what it had proved; set with it.
adjustments: public(address)
treasury: public(address)
# owed to accounts, escrow included | fees due << 128. Tokens held are the sum, after every call.
_money: uint256
_pause: uint256

# account << 32 | number -> mandate word
_mandates: HashMap[uint256, uint256]
# session key (zone << 64 | first slot) -> session word, book word
_sessions: HashMap[uint256, uint256]
_books: HashMap[uint256, uint256]
# zone -> slot -> what was cleared, as the auction packs it
_clearings: HashMap[uint256, HashMap[uint256, uint256]]
# By number. An array, and the last variable: its places need no hash.
_accounts: uint256[2**32]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(token: address, parameters: address, registry: address, treasury: address):
    """
    @param token The settlement token: ERC-20 with 6 decimals.
    @param treasury Receives the grid fees.
    """
    assert treasury != empty(address), "market: treasury is zero"
    ownable.__init__()
    TOKEN = IERC20(token)
    PARAMETERS = IGridParameters(parameters)
    REGISTRY = IMeterRegistry(registry)
    self.treasury = treasury
    log TreasuryChanged(treasury=treasury)


@external
def set_auction(auction: address, adjustments: address):
    """
    @notice Says which contract clears and settles, and which one adjusts. Owner only, once:
            others are another deployment.
    """
    ownable._check_owner()
    assert auction != empty(address) and adjustments != empty(address), "market: auction is zero"
    assert self.auction == empty(address), "market: auction is set"
    self.auction = auction
    self.adjustments = adjustments


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
        self._deposit(accounts[i], amounts[i])
        total += amounts[i]
    self._pull(msg.sender, total)


@external
@nonreentrant
def deposit_with_permit(
    account: uint256, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice Pulls tokens from the account's owner, who signed an EIP-2612 permit over `amount`
            to this contract. Anyone may bring it.
    @dev Whoever sees the permit can use it first; then it fails here and the allowance it left
         serves. Such a caller can only move the owner's allowance into the owner's account.
    """
    owner: address = convert(self._account_word(account) & ADDRESS_MASK, address)
    permit: bool = raw_call(
        TOKEN.address,
        abi_encode(
            owner,
            self,
            amount,
            deadline,
            v,
            r,
            s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        revert_on_failure=False,
    )
    assert (
        permit or staticcall TOKEN.allowance(owner, self) >= amount
    ), "market: permit is not valid"
    self._deposit(account, amount)
    self._pull(owner, amount)


@external
@nonreentrant
def withdraw(account: uint256, amount: uint256, to: address):
    """
    @notice Pays free balance out to `to`. Nothing can stop an owner from doing this.
    """
    self._withdraw(account, self._owned(account), amount, to)


@external
@nonreentrant
def withdraw_signed(
    account: uint256,
    nonce: uint256,
    amount: uint256,
    to: address,
    deadline: uint256,
    signature: Bytes[MAX_WALLET_SIGNATURE],
):
    """
    @notice As `withdraw`, with the owner's signature over `Withdrawal`. It uses one of the
            account's order numbers, so that `revoke` stops it too.
    """
    word: uint256 = self._account_word(account)
    assert block.timestamp <= deadline, "market: withdrawal has expired"
    assert self._nonce_free(word, nonce), "market: nonce is not free"
    self._check_owner_signed(
        word,
        keccak256(abi_encode(WITHDRAWAL_TYPE, account, nonce, amount, to, deadline)),
        signature,
    )
    self._withdraw(account, self._with_nonce(word, nonce), amount, to)


@external
def revoke(account: uint256, nonce: uint256):
    """
    @notice Makes a signed but unposted order worthless. What is posted stays posted.
    """
    self._revoke(account, self._owned(account), nonce)


@external
def revoke_signed(account: uint256, nonce: uint256, signature: Bytes[MAX_WALLET_SIGNATURE]):
    """
    @notice As `revoke`, with the owner's signature over `Revocation`.
    """
    word: uint256 = self._account_word(account)
    self._check_owner_signed(
        word, keccak256(abi_encode(REVOCATION_TYPE, account, nonce)), signature
    )
    self._revoke(account, word, nonce)


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
    amount: uint256 = self._money >> 128
    self._money -= amount << 128
    log FeesCollected(treasury=self.treasury, amount=amount)
    self._pay(self.treasury, amount)


# ---------------------------------------------------------------------------- #
#                                   MANDATES                                   #
# ---------------------------------------------------------------------------- #

@external
def grant_mandate(account: uint256, number: uint256, terms: Mandate):
    """
    @notice Lets an agent's key order for the account within limits, without holding its money.
    @param number Any number that the account has not used for a mandate yet; not 0.
    """
    self._owned(account)
    self._grant(account, number, terms)


@external
def grant_mandate_signed(
    account: uint256, number: uint256, terms: Mandate, signature: Bytes[MAX_WALLET_SIGNATURE]
):
    """
    @notice As `grant_mandate`, with the owner's signature over `Mandate`.
    """
    self._check_owner_signed(
        self._account_word(account),
        keccak256(abi_encode(MANDATE_TYPE, account, number, terms)),
        signature,
    )
    self._grant(account, number, terms)


@external
def end_mandate(account: uint256, number: uint256):
    """
    @notice Ends a mandate: none of its orders can be posted any more.
    """
    self._owned(account)
    self._end_mandate(account, number)


@external
def end_mandate_signed(
    account: uint256, number: uint256, signature: Bytes[MAX_WALLET_SIGNATURE]
):
    """
    @notice As `end_mandate`, with the owner's signature over `MandateEnd`.
    """
    self._check_owner_signed(
        self._account_word(account),
        keccak256(abi_encode(MANDATE_END_TYPE, account, number)),
        signature,
    )
    self._end_mandate(account, number)


# ---------------------------------------------------------------------------- #
#                                    POSTING                                   #
# ---------------------------------------------------------------------------- #

@external
def post(
    zone: uint256,
    first_slot: uint256,
    orders: uint256,
    rows: uint256,
    batch: DynArray[uint256, MAX_BATCH_WORDS],
):
    """
    @notice Posts signed orders to the session that starts with `first_slot`. An unusable
            order is turned away alone, with its reason; the rest of the batch goes on.
    @param orders How many orders the batch holds.
    @param rows How many words of the batch they take; the rest are signatures.
    @param batch One header word per order, followed by its profile words where it has any:
           account @224, mandate @192, nonce @176, expiry @136, flags @128, limit @104, wh @88,
           offset @80, count @72. Flags: 1 ask, 2 profile, 4 signed by a contract wallet, 8 the
           caller is the signer. Profile words hold the values of 16 slots each, 16 bits a slot,
           lowest first; they are cut at every sixteenth slot of the session, so an order brings
           the words that its slots touch.
           Then for each order in turn two words, r and the EIP-2098 `yParity and s`; with flag 4
           the length of the signature and sixteen words that hold it; with flag 8 nothing.
    """
    self._post(zone, first_slot, orders, rows, len(batch))


@internal
def _post(zone: uint256, first_slot: uint256, orders: uint256, rows: uint256, words: uint256):
    """
    @dev Reads the batch where it lies, at the place to which the calldata's own offset points,
         as the decoder of `post` did before.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._sessions[key]
    if session == 0:
        session = self._open_session(zone, first_slot)
    assert block.timestamp < session >> GATE, "market: the gate is closed"
    assert (session >> VOIDED) & 1 == 0, "market: session is void"
    assert rows <= words and words <= MAX_BATCH_WORDS, "market: more orders than words"

    slots: uint256 = session & 255
    penalty: uint256 = (session >> PENALTY_RATE) & 65_535
    min_wh: uint256 = (session >> MIN_WH) & 65_535
    max_wh: uint256 = (session >> MAX_WH) & 65_535
    # Counts every order; those turned away are taken off again.
    book: uint256 = self._books[key] + orders
    prefix: Bytes[34] = concat(b"\x19\x01", self._separator())

    today: uint256 = block.timestamp // DAY_SECONDS
    # Places in the calldata: of the next order, of the end of the orders, of the next signature.
    row: uint256 = 36 + convert(slice(msg.data, 132, 32), uint256)
    end: uint256 = row + 32 * rows
    at: uint256 = end
    last: uint256 = row + 32 * words
    # Where the run of accepted words begins that the book does not hold yet.
    run: uint256 = row
    # Unchecked below: places in the calldata; energy, at most 96 slots of 16 bits, times a price
    # of 16 bits; the balance, which covers the amount; the open orders, which are few.
    # The last reason that applies is the one given.
    for position: uint256 in range(orders, bound=MAX_ORDERS):
        header: uint256 = convert(slice(msg.data, row, 32), uint256)
        account: uint256 = header >> 224
        limit: uint256 = (header >> 104) & 65_535
        wh: uint256 = (header >> 88) & 65_535
        offset: uint256 = (header >> 80) & 255
        count: uint256 = (header >> 72) & 255
        side: uint256 = (header >> 128) & 1
        word: uint256 = self._accounts[account]
        energy: uint256 = unsafe_mul(wh, count)
        # What a Wh puts in escrow.
        rate: uint256 = limit
        if side == 1:
            rate = penalty
        amount: uint256 = unsafe_mul(energy, rate)
        signer: uint256 = word & ADDRESS_MASK
        nonces: uint256 = word
        next: uint256 = unsafe_add(row, 32)
        next_at: uint256 = unsafe_add(at, 64)
        profile: bytes32 = empty(bytes32)
        reason: uint256 = 0
        if header & SPECIAL != 0:
            if header & PROFILE != 0:
                next = self._profile_end(next, offset, count)
                assert next <= end, "market: profile is cut off"
                energy = self._profile_energy(row, next, offset, count, max_wh)
                amount = unsafe_mul(energy, rate)
                profile = self._hash_words(unsafe_add(row, 32), next)
                if wh != 0:
                    reason = MALFORMED
            if header & HEADER_ZEROS != 0:
                reason = MALFORMED
            if header & CALLER != 0:
                next_at = at
            elif header & WALLET != 0:
                next_at = unsafe_add(at, 32 + MAX_WALLET_SIGNATURE)
            if header & MANDATE != 0:
                nonces = self._mandates[header >> 192]
                signer = nonces & ADDRESS_MASK
                # Unchecked: an amount is below 2**40.
                cents: uint256 = unsafe_add(amount, CENT - 1) // CENT
                if (nonces >> LAST_USED) & 7 == today & 7:
                    cents = unsafe_add(cents, (nonces >> COMMITTED) & 65_535)
                if cents > unsafe_mul(10, (nonces >> DAILY_CAP) & 4_095):
                    reason = BEYOND_MANDATE
                if today > (nonces >> LAST_DAY) & 65_535:
                    reason = BEYOND_MANDATE
                if (nonces >> MANDATE_SIDE) & 1 != side:
                    reason = BEYOND_MANDATE
                if side == 1:
                    if limit < nonces >> PRICE_LIMIT:
                        reason = BEYOND_MANDATE
                elif limit > nonces >> PRICE_LIMIT:
                    reason = BEYOND_MANDATE
                if signer == 0:
                    reason = NO_MANDATE
                nonces = (nonces & NOT_TODAY) | (cents << COMMITTED) | ((today & 7) << LAST_USED)
        if amount > (word >> BALANCE) & MONEY_MASK:
            reason = POOR
        nonce: uint256 = (header >> 176) & 65_535
        # Base and bits side by side: the number is the next in turn and none above it is used.
        if (nonces >> NONCE_BASE) & (2**32 - 1) == nonce:
            # After 65,535 the sum carries into the bits: 0 counts as used.
            nonces = unsafe_add(nonces, 1 << NONCE_BASE)
        elif self._nonce_free(nonces, nonce):
            nonces = self._with_nonce(nonces, nonce)
        else:
            reason = NONCE_USED
        if energy < min_wh:
            reason = ENERGY_BOUND
        if wh > max_wh:
            reason = ENERGY_BOUND
        expiry: uint256 = (header >> 136) & (2**40 - 1)
        if expiry < block.timestamp:
            reason = EXPIRED
        if unsafe_add(offset, count) > slots:
            reason = MALFORMED
        # The account's zone, with the bit that says 32 open orders. An empty word has zone 0, where
        # no session opens.
        if (word >> ZONE) & ZONE_AND_FULL != zone:
            reason = TOO_MANY_OPEN
            if (word >> ZONE) & 1_023 != zone:
                reason = UNKNOWN_ACCOUNT

        if reason == 0:
            struct_hash: bytes32 = keccak256(
                abi_encode(
                    ORDER_TYPE,
                    account,
                    (header >> 192) & (2**32 - 1),
                    nonce,
                    expiry,
                    side,
                    limit,
                    unsafe_add(first_slot, offset),
                    count,
                    wh,
                    profile,
                )
            )
            if header & (WALLET | CALLER) == 0:
                r: uint256 = 0
                vs: uint256 = 0
                r, vs = abi_decode(slice(msg.data, at, 64), (uint256, uint256))
                if vs & LOW_255 > MAX_S:
                    reason = BAD_SIGNATURE
                # The signer is not zero, so a failed recovery is nobody's signature.
                if signer != convert(
                    ecrecover(
                        keccak256(concat(prefix, struct_hash)),
                        unsafe_add(27, vs >> 255),
                        r,
                        vs & LOW_255,
                    ),
                    uint256,
                ):
                    reason = BAD_SIGNATURE
            elif header & CALLER != 0:
                if convert(msg.sender, uint256) != signer:
                    reason = BAD_SIGNATURE
            elif not self._wallet_signed(signer, keccak256(concat(prefix, struct_hash)), at):
                reason = BAD_SIGNATURE
        at = next_at

        if reason == 0:
            if header & MANDATE == 0:
                word = nonces
            else:
                self._mandates[header >> 192] = nonces
            self._accounts[account] = unsafe_add(
                unsafe_sub(word, amount << BALANCE), 1 << OPEN
            )
        else:
            log OrderRejected(
                session=key, position=position, account=account, nonce=nonce, reason=reason
            )
            book = unsafe_sub(self._fold(key, book, run, row), 1)
            run = next
        row = next

    assert row == end, "market: orders do not fill their words"
    assert at == last, "market: one signature per order"
    book = self._fold(key, book, run, end)
    assert (
        book & COUNT_MASK <= MAX_ORDERS and (book >> BOOK_ROWS) & COUNT_MASK <= MAX_ROWS
    ), "market: the book is full"
    self._books[key] = book


# ---------------------------------------------------------------------------- #
#                            THE SESSION'S WAY THROUGH                           #
# ---------------------------------------------------------------------------- #

@external
def record_clearing(
    zone: uint256, first_slot: uint256, clearings: DynArray[uint256, MAX_SLOTS]
):
    """
    @notice Takes down what the next slots of a session came to. Only the auction calls.
    @param clearings A word per slot, as the auction packs it: price in the lowest 16 bits,
           volume above bit 168.
    """
    assert msg.sender == self.auction, "market: caller is not the auction"
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._live_session_word(key)
    assert block.timestamp >= session >> GATE, "market: the gate is open"
    assert not self._gate_in_pause(session), "market: the gate fell into a pause"
    slot: uint256 = first_slot + ((session >> CLEARED) & 255)
    assert slot + len(clearings) <= first_slot + (session & 255), "market: slots out of range"
    self._sessions[key] = session + (len(clearings) << CLEARED)
    for clearing: uint256 in clearings:
        self._clearings[zone][slot] = clearing
        log SlotCleared(
            zone=zone, slot=slot, price=clearing & 65_535, volume_wh=clearing >> 168
        )
        slot = unsafe_add(slot, 1)


@external
def record_settlement(
    zone: uint256,
    first_slot: uint256,
    totals: DynArray[uint256, MAX_SLOTS],
    released: uint256,
    orders: uint256,
    entries: uint256[MAX_ENTRY_WORDS],
):
    """
    @notice Pays a settlement out of the escrow. Only the auction calls.
    @param totals A word per slot settled: price @192 | penalties @128 | fees @64 | delivered Wh @0.
    @param released What leaves the escrow.
    @param orders How many entries there are.
    @param entries Two orders a word, the first in the upper half, none where a half is zero:
           credit in the lowest 48 bits | filled Wh from bit 48 | delivered Wh from bit 72 |
           account from bit 96.
    """
    assert msg.sender == self.auction, "market: caller is not the auction"
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._session_word(key)
    from_slot: uint256 = first_slot + ((session >> SETTLED) & 255)
    # Voided slots are settled too: their escrow goes back.
    last: uint256 = first_slot + (
        session & 255 if (session >> VOIDED) & 1 == 1 else (session >> CLEARED) & 255
    )
    assert from_slot + len(totals) <= last, "market: slots are not cleared"
    self._sessions[key] = session + (len(totals) << SETTLED)
    # The last slots close the session's orders.
    closes: uint256 = 0
    if from_slot + len(totals) == first_slot + (session & 255):
        closes = 1 << OPEN
    # Of both halves of the entries, apart.
    credits: uint256 = 0
    # Unchecked: 512 credits of 48 bits; an account with an entry holds an open order until here.
    for pair: uint256 in entries:
        if pair == 0:
            break
        credits = unsafe_add(credits, pair & CREDITS)
        word: uint256 = self._accounts[pair >> 224]
        after: uint256 = unsafe_add(word, ((pair >> 128) & MONEY_MASK) << BALANCE)
        # A balance beyond its bits would carry into the next.
        assert after ^ word < 1 << NONCE_BASE, "market: balance too large"
        self._accounts[pair >> 224] = unsafe_sub(after, closes)
        account: uint256 = (pair >> 96) & (2**32 - 1)
        if account != 0:
            word = self._accounts[account]
            after = unsafe_add(word, (pair & MONEY_MASK) << BALANCE)
            assert after ^ word < 1 << NONCE_BASE, "market: balance too large"
            self._accounts[account] = unsafe_sub(after, closes)
    credited: uint256 = (credits >> 128) + (credits & (2**128 - 1))
    fees: uint256 = 0
    slot: uint256 = from_slot
    for total: uint256 in totals:
        fees += (total >> 64) & (2**64 - 1)
        log SlotSettled(
            zone=zone,
            slot=slot,
            price=total >> 192,
            delivered_wh=total & (2**64 - 1),
            fees=(total >> 64) & (2**64 - 1),
            penalties=(total >> 128) & (2**64 - 1),
        )
        slot = unsafe_add(slot, 1)
    # What leaves the escrow arrives, to the last unit.
    assert credited + fees == released, "market: money is not conserved"
    if fees != 0:
        self._money = self._money - fees + (fees << 128)
    log OrdersSettled(
        zone=zone,
        first_slot=first_slot,
        from_slot=from_slot,
        slots=len(totals),
        # Where the calldata keeps the entries.
        entries=slice(slice(msg.data, 164, MAX_ENTRY_BYTES), 0, 16 * orders),
    )


@external
def record_adjustment(
    zone: uint256,
    slot: uint256,
    account: uint256,
    wh: uint256,
    amount: uint256,
    credits: DynArray[uint256, MAX_ORDERS],
):
    """
    @notice Moves what a seller gives back for energy that its meter took back after settlement.
            Only the contract for adjustments calls.
    @param credits account << 224 | amount, for the slot's buyers.
    """
    assert msg.sender == self.adjustments, "market: caller is not the adjuster"
    self._accounts[account] = self._debited(self._accounts[account], amount)
    left: uint256 = amount
    for credit: uint256 in credits:
        share: uint256 = credit & MONEY_MASK
        self._accounts[credit >> 224] = self._credited(self._accounts[credit >> 224], share)
        left -= share
    assert left == 0, "market: money is not conserved"
    log AdjustmentRecorded(
        zone=zone, slot=slot, account=account, wh=wh, amount=amount, credits=credits
    )


@external
def void(zone: uint256, first_slot: uint256):
    """
    @notice Voids what was not cleared in time, or whose gate fell into a pause; what was
            cleared stays. The escrow comes back when the session is settled.
    """
    key: uint256 = self._session_key(zone, first_slot)
    session: uint256 = self._live_session_word(key)
    gate: uint256 = session >> GATE
    if not self._gate_in_pause(session):
        terms: uint256 = staticcall PARAMETERS.session_terms(gate)
        assert (
            block.timestamp > gate + ((terms >> 80) & (2**24 - 1))
        ), "market: can still be cleared"
    self._void(key, session)


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
        (session & ~(255 << CLEARED)) | (settled << CLEARED) | (1 << VOIDED)
    )
    # As if nothing had traded in these slots.
    for slot: uint256 in range(
        first_slot + settled, first_slot + ((session >> CLEARED) & 255), bound=MAX_SLOTS
    ):
        self._clearings[zone][slot] = NO_PRICE
    log SessionVoided(zone=zone, first_slot=first_slot, from_slot=first_slot + settled)


# ---------------------------------------------------------------------------- #
#                                     PAUSE                                    #
# ---------------------------------------------------------------------------- #

@external
def set_guardian(guardian: address):
    """
    @notice Names who may pause the market once; the zero address takes the office away.
    """
    ownable._check_owner()
    self._pause = (self._pause & ~ADDRESS_MASK) | convert(guardian, uint256)
    log GuardianChanged(guardian=guardian)


@external
def pause(sessions: DynArray[uint256, MAX_BATCH]):
    """
    @notice Stops new orders for three days, and uses the guardian's office up. No session opens,
            and one whose gate falls into the pause is void: those named here at once, others as
            soon as anyone calls `void`. Orders can be posted two days ahead at most, so that is
            every session that is open. Money can be withdrawn all the same.
    @param sessions Keys (zone << 64 | first slot) of the sessions to void now.
    """
    pause: uint256 = self._pause
    assert (
        convert(msg.sender, uint256) == pause & ADDRESS_MASK
    ), "market: caller is not the guardian"
    since: uint256 = block.timestamp
    if pause >> PAUSED_UNTIL > since:
        # One pause follows another without a gap: gates of the first stay closed.
        since = (pause >> PAUSED_FROM) & TIME_MASK
    until: uint256 = block.timestamp + PAUSE_SECONDS
    self._pause = (until << PAUSED_UNTIL) | (since << PAUSED_FROM)
    log GuardianChanged(guardian=empty(address))
    log Paused(until=until)
    for key: uint256 in sessions:
        session: uint256 = self._live_session_word(key)
        assert self._gate_in_pause(session), "market: the gate is not in the pause"
        self._void(key, session)


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
def mandate(account: uint256, number: uint256) -> (Mandate, uint256, uint256, uint256):
    """
    @return The terms, with agent zero where the mandate has ended or there is none; cents
            committed today; nonce base, and bitmap of used nonces.
    """
    word: uint256 = self._mandates[(account << 32) | number]
    committed: uint256 = 0
    if (word >> LAST_USED) & 7 == (block.timestamp // DAY_SECONDS) & 7:
        committed = (word >> COMMITTED) & 65_535
    return (
        Mandate(
            agent=convert(word & ADDRESS_MASK, address),
            side=(word >> MANDATE_SIDE) & 1,
            limit=word >> PRICE_LIMIT,
            daily_cap=(word >> DAILY_CAP) & 4_095,
            last_day=(word >> LAST_DAY) & 65_535,
        ),
        committed,
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
    key: uint256 = (zone << 64) | first_slot
    word: uint256 = self._sessions[key]
    return (
        word & 255,
        word >> GATE,
        (word >> CLEARED) & 255,
        (word >> SETTLED) & 255,
        self._books[key] & COUNT_MASK,
        (word >> PENALTY_RATE) & 65_535,
        (word >> VOIDED) & 1 == 1,
    )


@view
@external
def session_words(zone: uint256, first_slot: uint256) -> (uint256, uint256):
    """
    @return The session's word and its book's, as the auction reads them.
    """
    key: uint256 = self._session_key(zone, first_slot)
    return self._session_word(key), self._books[key]


@view
@external
def clearing_words(
    zone: uint256, first_slot: uint256, slots: uint256
) -> DynArray[uint256, MAX_SLOTS]:
    """
    @return What each slot came to, as the auction packed it; 0 where it is not cleared.
    """
    words: DynArray[uint256, MAX_SLOTS] = []
    for slot: uint256 in range(first_slot, first_slot + slots, bound=MAX_SLOTS):
        words.append(self._clearings[zone][slot])
    return words


@view
@external
def clearing(zone: uint256, slot: uint256) -> (uint256, uint256, uint256):
    """
    @return Price (65,535: nothing traded), grid fee, and volume in Wh of a cleared slot.
    """
    word: uint256 = self._clearings[zone][slot]
    return word & 65_535, (word >> 16) & 65_535, word >> 168


@view
@external
def owed() -> uint256:
    """
    @return What the contract owes to accounts, in free balances and in escrow.
    """
    return self._money & (2**128 - 1)


@view
@external
def fees_due() -> uint256:
    """
    @return What the contract owes to the treasury.
    """
    return self._money >> 128


@view
@external
def guard() -> (address, uint256, uint256):
    """
    @return The guardian, and the beginning and end of the last pause, unix seconds.
    """
    word: uint256 = self._pause
    return (
        convert(word & ADDRESS_MASK, address),
        (word >> PAUSED_FROM) & TIME_MASK,
        word >> PAUSED_UNTIL,
    )


@view
@external
def contracts() -> (address, address, address):
    """
    @return Settlement token, parameters, meter registry.
    """
    return TOKEN.address, PARAMETERS.address, REGISTRY.address


# ---------------------------------------------------------------------------- #
#                               INTERNAL: POSTING                              #
# ---------------------------------------------------------------------------- #

@internal
def _open_session(zone: uint256, first_slot: uint256) -> uint256:
    """
    @dev Its terms are those of 24 hours before the session's day, so that an order can be
         signed for a session whose shape no later vote can move.
    """
    day: uint256 = first_slot * SLOT_SECONDS // DAY_SECONDS * DAY_SECONDS
    announced: uint256 = day - DAY_SECONDS
    # Not in that very second: a rule may still change in it.
    assert block.timestamp > announced, "market: too early to post"
    terms: uint256 = staticcall PARAMETERS.session_terms(announced)
    # The number of sessions divides 24: the parameters take no other.
    slots: uint256 = 96 // ((terms >> 48) & 255)
    assert first_slot % slots == 0, "market: no session starts here"
    gate: uint256 = first_slot * SLOT_SECONDS - ((terms >> 56) & (2**24 - 1))
    assert zone != 0 and zone <= 1_023, "market: zone out of range"
    assert block.timestamp >= self._pause >> PAUSED_UNTIL, "market: paused"
    log SessionOpened(
        zone=zone, first_slot=first_slot, slots=slots, gate=gate, penalty=terms & 65_535
    )
    # Penalty, minimum and maximum Wh stand side by side there and here.
    session: uint256 = slots | ((terms & (2**48 - 1)) << PENALTY_RATE) | (gate << GATE)
    self._sessions[self._session_key(zone, first_slot)] = session
    return session


@pure
@internal
def _profile_end(start: uint256, offset: uint256, count: uint256) -> uint256:
    """
    @return Where a profile ends in the calldata that begins at `start`: it has a word for every
            sixteen slots of the session that the order touches.
    """
    stop: uint256 = unsafe_add(unsafe_add(offset, count), 15)
    # Sixteen slots take 32 bytes.
    return unsafe_add(start, unsafe_mul(unsafe_sub(stop >> 4, offset >> 4), 32))


@view
@internal
def _profile_energy(
    row: uint256, end: uint256, offset: uint256, count: uint256, max_wh: uint256
) -> uint256:
    """
    @return The energy of the profile whose header lies at `row` of the calldata; zero where a
            value is above the maximum or stands outside the order's slots, for there it would
            be escrowed for nothing.
    """
    tops: uint256 = unsafe_add(LANE_TOPS, unsafe_mul(LANES, max_wh))
    # Places of the first word before the order's slots, and of the last one behind them.
    before: uint256 = (1 << ((offset & 15) << 4)) - 1
    behind: uint256 = ((unsafe_sub(unsafe_add(offset, count), 1) & 15) + 1) << 4
    sums: uint256 = 0
    at: uint256 = unsafe_add(row, 32)
    for _: uint256 in range(16):
        if at == end:
            break
        values: uint256 = convert(slice(msg.data, at, 32), uint256)
        if values & before != 0:
            return 0
        before = 0
        at = unsafe_add(at, 32)
        if at == end and values >> behind != 0:
            return 0
        even: uint256 = values & EVEN_LANES
        odd: uint256 = (values >> 16) & EVEN_LANES
        # A lane keeps its highest bit unless its value is above the maximum.
        if unsafe_sub(tops, even) & unsafe_sub(tops, odd) & LANE_TOPS != LANE_TOPS:
            return 0
        sums = unsafe_add(sums, unsafe_add(even, odd))
    # The product's highest lane is the sum of all eight; none reaches 2**22.
    return unsafe_mul(sums, LANES) >> 224


@view
@internal
def _hash_words(start: uint256, end: uint256) -> bytes32:
    """
    @return The hash of one to six words of the calldata, as EIP-712 hashes an array.
    """
    words: uint256 = unsafe_sub(end, start) >> 5
    if words == 1:
        return keccak256(slice(msg.data, start, 32))
    if words == 2:
        return keccak256(slice(msg.data, start, 64))
    if words == 3:
        return keccak256(slice(msg.data, start, 96))
    if words == 4:
        return keccak256(slice(msg.data, start, 128))
    if words == 5:
        return keccak256(slice(msg.data, start, 160))
    return keccak256(slice(msg.data, start, 192))


@internal
def _fold(key: uint256, book: uint256, start: uint256, end: uint256) -> uint256:
    """
    @notice Takes the words of the calldata from `start` to `end` into the book, page by page:
            hash = keccak256(hash || page), its low 24 bits cleared. Counts the words.
    @dev Every page is logged as it is hashed, so who reads the events can fold them again.
         232 bits are enough: two books with one hash take 2**116 trials to find.
    """
    hash: uint256 = book & HASH_MASK
    at: uint256 = start
    # A batch is at most 32 pages long.
    for _: uint256 in range(32):
        if unsafe_sub(end, at) < 2_048:
            break
        log OrdersPosted(session=key, page=slice(msg.data, at, 2_048))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 2_048))), uint256
        )
        at = unsafe_add(at, 2_048)
    left: uint256 = unsafe_sub(end, at)
    if left & 1_024 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 1_024))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 1_024))), uint256
        )
        at = unsafe_add(at, 1_024)
    if left & 512 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 512))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 512))), uint256
        )
        at = unsafe_add(at, 512)
    if left & 256 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 256))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 256))), uint256
        )
        at = unsafe_add(at, 256)
    if left & 128 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 128))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 128))), uint256
        )
        at = unsafe_add(at, 128)
    if left & 64 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 64))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 64))), uint256
        )
        at = unsafe_add(at, 64)
    if left & 32 != 0:
        log OrdersPosted(session=key, page=slice(msg.data, at, 32))
        hash = HASH_MASK & convert(
            keccak256(concat(convert(hash, bytes32), slice(msg.data, at, 32))), uint256
        )
    return hash | ((book & ~HASH_MASK) + (unsafe_sub(end, start) >> 5 << BOOK_ROWS))


@view
@internal
def _wallet_signed(wallet: uint256, digest: bytes32, at: uint256) -> bool:
    """
    @return Whether a contract wallet agrees to the signature at `at` of the calldata.
    """
    length: uint256 = convert(slice(msg.data, at, 32), uint256)
    if length > MAX_WALLET_SIGNATURE:
        return False
    return self._wallet_agrees(
        wallet,
        digest,
        slice(slice(msg.data, unsafe_add(at, 32), MAX_WALLET_SIGNATURE), 0, length),
    )


# ---------------------------------------------------------------------------- #
#                          INTERNAL: ACCOUNTS AND MONEY                          #
# ---------------------------------------------------------------------------- #

@internal
def _deposit(account: uint256, amount: uint256):
    word: uint256 = self._account_word(account)
    # A full account could not be credited, and would hold up a settlement.
    assert (
        ((word >> BALANCE) & MONEY_MASK) + amount <= MAX_DEPOSITED
    ), "market: balance too large"
    self._accounts[account] = word + (amount << BALANCE)
    log Deposited(account=account, amount=amount)


@internal
def _pull(payer: address, amount: uint256):
    self._money += amount
    held: uint256 = staticcall TOKEN.balanceOf(self)
    assert extcall TOKEN.transferFrom(
        payer, self, amount, default_return_value=True
    ), "market: transfer failed"
    # A token that keeps a part for itself would leave balances without cover.
    assert staticcall TOKEN.balanceOf(self) == held + amount, "market: token took a fee"


@internal
def _withdraw(account: uint256, word: uint256, amount: uint256, to: address):
    self._accounts[account] = self._debited(word, amount)
    self._money -= amount
    log Withdrawn(account=account, to=to, amount=amount)
    self._pay(to, amount)


@pure
@internal
def _debited(word: uint256, amount: uint256) -> uint256:
    assert amount <= (word >> BALANCE) & MONEY_MASK, "market: balance too low"
    return word - (amount << BALANCE)


@pure
@internal
def _credited(word: uint256, amount: uint256) -> uint256:
    assert ((word >> BALANCE) & MONEY_MASK) + amount <= MONEY_MASK, "market: balance too large"
    return word + (amount << BALANCE)


@internal
def _pay(to: address, amount: uint256):
    assert extcall TOKEN.transfer(to, amount, default_return_value=True), "market: transfer failed"


@internal
def _revoke(account: uint256, word: uint256, nonce: uint256):
    assert self._nonce_free(word, nonce), "market: nonce is not free"
    self._accounts[account] = self._with_nonce(word, nonce)
    log NonceRevoked(account=account, nonce=nonce)


@internal
def _grant(account: uint256, number: uint256, terms: Mandate):
    assert number != 0 and number < 2**32, "market: mandate out of range"
    assert terms.agent != empty(address), "market: agent is zero"
    assert (
        terms.side < 2
        and terms.limit < NO_PRICE
        and terms.daily_cap < 4_096
        and terms.last_day < 65_536
    ), "market: terms out of range"
    key: uint256 = (account << 32) | number
    assert self._mandates[key] == 0, "market: mandate number is used"
    self._mandates[key] = (
        convert(terms.agent, uint256)
        | (terms.daily_cap << DAILY_CAP)
        | (terms.side << MANDATE_SIDE)
        | (terms.last_day << LAST_DAY)
        | (terms.limit << PRICE_LIMIT)
    )
    log MandateGranted(account=account, number=number, agent=terms.agent, terms=terms)


@internal
def _end_mandate(account: uint256, number: uint256):
    key: uint256 = (account << 32) | number
    assert self._mandates[key] & ADDRESS_MASK != 0, "market: no such mandate"
    self._mandates[key] = ENDED
    log MandateEnded(account=account, number=number)


@view
@internal
def _account_word(account: uint256) -> uint256:
    word: uint256 = self._accounts[account]
    assert word != 0, "market: unknown account"
    return word


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
def _nonce_free(word: uint256, nonce: uint256) -> bool:
    """
    @dev Numbers wrap at 65,536: an order names its slots, so it cannot come back after
         its gate, long before its number does.
    """
    distance: uint256 = unsafe_sub(nonce, word >> NONCE_BASE) & 65_535
    return (
        distance < NONCE_WINDOW
        and (word >> unsafe_add(NONCE_BITS, distance)) & 1 == 0
        and nonce < 65_536
    )


@pure
@internal
def _with_nonce(word: uint256, nonce: uint256) -> uint256:
    """
    @return The word with the free nonce marked as used; the window moves past every number that
            is used up.
    """
    base: uint256 = (word >> NONCE_BASE) & 65_535
    bits: uint256 = (word >> NONCE_BITS) & 65_535
    if nonce == base and bits == 0 and base != 65_535:
        # In turn, as nearly always.
        return unsafe_add(word, 1 << NONCE_BASE)
    bits |= 1 << (unsafe_sub(nonce, base) & 65_535)
    for i: uint256 in range(NONCE_WINDOW):
        if bits & 1 == 0:
            break
        bits = bits >> 1
        base = (base + 1) & 65_535
    cleared: uint256 = word & ~((65_535 << NONCE_BASE) | (65_535 << NONCE_BITS))
    return cleared | (base << NONCE_BASE) | (bits << NONCE_BITS)


# ---------------------------------------------------------------------------- #
#                             INTERNAL: SIGNATURES                             #
# ---------------------------------------------------------------------------- #

@view
@internal
def _separator() -> bytes32:
    """
    @dev Computed for each batch, not kept: it follows a fork of the chain.
    """
    return keccak256(abi_encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain.id, self))


@view
@internal
def _wallet_agrees(
    wallet: uint256, digest: bytes32, signature: Bytes[MAX_WALLET_SIGNATURE]
) -> bool:
    """
    @return Whether a contract wallet takes the signature for its own (ERC-1271).
    """
    # Too little gas to give would turn a good order away.
    assert msg.gas >= WALLET_RESERVE, "market: too little gas for a wallet"
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        convert(wallet, address),
        abi_encode(
            digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")
        ),
        max_outsize=32,
        gas=WALLET_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(answer) == 32 and convert(answer, uint256) == MAGIC_VALUE


@view
@internal
def _check_owner_signed(
    word: uint256, struct_hash: bytes32, signature: Bytes[MAX_WALLET_SIGNATURE]
):
    """
    @dev 64 bytes are an EIP-2098 signature; the owner's key comes first, then its code.
    """
    owner: uint256 = word & ADDRESS_MASK
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._separator(), struct_hash))
    if len(signature) == 64:
        vs: uint256 = convert(slice(signature, 32, 32), uint256)
        signer: address = empty(address)
        if vs & LOW_255 <= MAX_S:
            signer = ecrecover(
                digest,
                27 + (vs >> 255),
                convert(slice(signature, 0, 32), uint256),
                vs & LOW_255,
            )
        # An owner is not zero, so a failed recovery is nobody's signature.
        if convert(signer, uint256) == owner:
            return
    assert self._wallet_agrees(owner, digest, signature), "market: not the owner's signature"


# ---------------------------------------------------------------------------- #
#                              INTERNAL: SESSIONS                              #
# ---------------------------------------------------------------------------- #

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


@internal
def _void(key: uint256, session: uint256):
    cleared: uint256 = (session >> CLEARED) & 255
    assert cleared < session & 255, "market: session is cleared"
    self._sessions[key] = session | (1 << VOIDED)
    first_slot: uint256 = key & (2**64 - 1)
    log SessionVoided(zone=key >> 64, first_slot=first_slot, from_slot=first_slot + cleared)


@view
@internal
def _gate_in_pause(session: uint256) -> bool:
    pause: uint256 = self._pause
    gate: uint256 = session >> GATE
    return gate >= (pause >> PAUSED_FROM) & TIME_MASK and gate < pause >> PAUSED_UNTIL
