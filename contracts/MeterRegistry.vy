# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Meter registry
@notice Which device key speaks for which metering point, who owns the point and in which
        zone it lies. A metering point is a number, counted from 1; the same number is the
        market account. Keys have a period of validity, and past periods stay readable, so
        that an old reading can be checked against the key of its own time. A device that signs
        two delivery receipts with different energy for one slot loses its key to whoever shows
        both.

           device  |---- first key ----|---- next key ------ ... in force until something ends it
                   registered          valid_from of its rotation, up to 30 days ahead

        The registrar gives a meter its next key, or the key in force hands over to the next one
        by its signature. What the registrar has set, no signature changes. What a key has signed
        for falls with that key: suspended, its handover never begins; convicted of two receipts,
        it takes along those that it handed over to in the last 30 days.
@dev A period is kept as its start and its length, so that one subtraction and one comparison
     tell whether a moment lies in it.
"""

from snekmate.auth import ownable
from snekmate.utils import ecdsa
from interfaces import IMeterRegistry

implements: IMeterRegistry
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# A transaction holds 16.7 million gas (EIP-7825); a registration costs about 75,000.
MAX_BATCH: constant(uint256) = 128
# Whoever asks for the keys of one session's sellers; a larger bound costs the caller memory.
MAX_LOOKUP: constant(uint256) = 256
# Callers ask about a few devices at a time: each place costs them memory.
MAX_CLAIMS: constant(uint256) = 16
# The market packs the number of an account into 32 bits.
MAX_METERS: constant(uint256) = 2**32
# A meter's key is replaced when the device is: eight in a lifetime bound the search.
MAX_KEYS: constant(uint256) = 8
# Of these, signatures reach no further than the sixth: a thief of a key cannot use them up, and
# the registrar can always take the meter back, and once more.
MAX_SIGNED_KEYS: constant(uint256) = 6
# A zone number must fit the market's packed account word (10 bits).
MAX_ZONE: constant(uint256) = 1_023

# Long enough to announce a change of devices to a street; a slip cannot end a key for years.
MAX_AHEAD: constant(uint256) = 30 * 86_400
# For so long a handover that has begun falls with the key that made it: whoever is about to be
# convicted would hand over first. No longer, or a device thrown away years ago could end the
# meter's key of today.
MAX_RECENT: constant(uint256) = 30 * 86_400

SLOT_SECONDS: constant(uint256) = 900
# A receipt speaks of a session, which is at most a day, 16 slots a word.
MAX_SLOTS: constant(uint256) = 96
MAX_EXPORT_WORDS: constant(uint256) = 6

ADDRESS_MASK: constant(uint256) = 2**160 - 1
# The key word: valid_from:40 @216 | seconds it is valid:40 @176 | signed:1 @175 | number:15 @160
# | device @0, where the number counts the meter's keys from 0, and `signed` is set where the key
# before it handed over by signature.
NUMBER: constant(uint256) = 160
SIGNED: constant(uint256) = 2**175
SECONDS: constant(uint256) = 176
VALID_FROM: constant(uint256) = 216
NUMBER_MASK: constant(uint256) = 2**15 - 1
TIME_MASK: constant(uint256) = 2**40 - 1
# Seconds of a key that nothing has ended yet.
OPEN: constant(uint256) = TIME_MASK

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
# The receipts of `EnergyMarket`, in the domain of whichever market they are meant for.
MARKET_NAME: constant(bytes32) = keccak256("GridCommons EnergyMarket")
RECEIPT_TYPE: constant(bytes32) = keccak256(
    "DeliveryReceipt(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
)
# In the registry's own domain, signed by the key in force and by the new one.
REGISTRY_NAME: constant(bytes32) = keccak256("GridCommons MeterRegistry")
ROTATION_TYPE: constant(bytes32) = keccak256(
    "KeyRotation(uint32 meter,address device,uint64 validFrom,uint64 deadline)"
)
# Half of the order of secp256k1: above it a signature is the malleable twin of another.
MAX_S: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event RegistrarChanged:
    registrar: indexed(address)


event MeterRegistered:
    meter: indexed(uint256)
    owner: indexed(address)
    zone: indexed(uint256)
    device: address


event KeyRotated:
    meter: indexed(uint256)
    device: indexed(address)
    valid_from: uint256


event KeySuspended:
    meter: indexed(uint256)
    device: indexed(address)
    valid_to: uint256


# Beside `KeySuspended`, and why.
event ReceiptConflict:
    meter: indexed(uint256)
    device: indexed(address)
    slot: uint256
    wh_a: uint256
    wh_b: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Receipt:
    # First slot and length of the session that it speaks of
    first_slot: uint256
    slots: uint256
    # Wh per slot, 16 values of 16 bits a word, lowest first
    exports: DynArray[uint256, MAX_EXPORT_WORDS]
    # EIP-2098: vs is s with the parity of y in its highest bit
    r: bytes32
    vs: bytes32


registrar: public(address)
meter_count: public(uint256)

# owner in the low 160 bits, zone above
_points: HashMap[uint256, uint256]
# The newest key of each meter: nearly every question is about it, and costs one read. A place in
# an array needs no hash.
_keys: uint256[MAX_METERS]
# meter -> number of the key -> key word
_older: HashMap[uint256, HashMap[uint256, uint256]]
# One device signs for one meter only, or its readings would count twice.
meter_of_device: public(HashMap[address, uint256])


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(registrar: address):
    """
    @param registrar May register meters and rotate or suspend their keys.
    """
    ownable.__init__()
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def set_registrar(registrar: address):
    """
    @notice Appoints the registrar; the zero address leaves the office empty.
    """
    ownable._check_owner()
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


@external
def register_batch(
    owners: DynArray[address, MAX_BATCH], devices: DynArray[address, MAX_BATCH], zone: uint256
):
    """
    @notice Registers one metering point per owner and device, numbered on from the last.
    @dev The keys are valid from now on. Reverts as a whole on any unusable entry.
    """
    assert msg.sender == self.registrar, "registry: caller is not the registrar"
    assert len(owners) == len(devices), "registry: one device per owner"
    assert zone != 0 and zone <= MAX_ZONE, "registry: zone out of range"
    meter: uint256 = self.meter_count
    for i: uint256 in range(len(owners), bound=MAX_BATCH):
        assert owners[i] != empty(address), "registry: owner is the zero address"
        meter += 1
        assert meter < MAX_METERS, "registry: no numbers left"
        self._points[meter] = convert(owners[i], uint256) | (zone << 160)
        self._put_key(meter, 0, devices[i], block.timestamp, 0)
        log MeterRegistered(meter=meter, owner=owners[i], zone=zone, device=devices[i])
    self.meter_count = meter


@external
def rotate_key(meter: uint256, device: address, valid_from: uint256 = block.timestamp):
    """
    @notice Gives the meter a new key. The one in force ends where the new one begins. A rotation
            that has not begun yet is replaced by this one, as if it had never been.
    @param device Has spoken for no meter before.
    @param valid_from Unix time, from now to 30 days ahead.
    """
    assert msg.sender == self.registrar, "registry: caller is not the registrar"
    assert self._points[meter] != 0, "registry: unknown meter"
    self._rotate(meter, device, valid_from, 0)


@external
def rotate_key_signed(
    meter: uint256,
    device: address,
    valid_from: uint256,
    deadline: uint256,
    old_signature: Bytes[65],
    new_signature: Bytes[65],
):
    """
    @notice The meter's key in force hands over to a new one; anyone may bring the signatures. As
            `rotate_key`, but a rotation that the registrar has set is not replaced, the last two
            of a meter's keys are left to the registrar, and a device that was to come and is
            replaced by another signed rotation is spent.
    @dev No pair of signatures counts twice. A device speaks for one meter once: `_put_key` takes
         none that was ever in force, and none that a signed rotation replaced. One that the
         registrar replaced is free again, but as long as the key that signed for it stays in
         force, the registrar's rotation stands in the way.
    @param device Has spoken for no meter before, and signs that it wants to.
    @param valid_from Unix time, from now to 30 days ahead.
    @param deadline Unix time of the last moment at which the signatures count.
    @param old_signature Of the key in force now: 65 bytes r, s, v or the 64 of EIP-2098, low s.
    @param new_signature The same by `device`.
    """
    assert block.timestamp <= deadline, "registry: signatures have expired"
    word: uint256 = self._key_at(meter, block.timestamp)
    assert word != 0, "registry: no key in force"
    newest: uint256 = self._keys[meter]
    assert (
        newest >> VALID_FROM <= block.timestamp or newest & SIGNED != 0
    ), "registry: the registrar has set the next key"
    separator: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPE, REGISTRY_NAME, DOMAIN_VERSION, chain.id, self)
    )
    struct_hash: bytes32 = keccak256(
        abi_encode(ROTATION_TYPE, meter, device, valid_from, deadline)
    )
    digest: bytes32 = keccak256(concat(b"\x19\x01", separator, struct_hash))
    assert (
        ecdsa._recover_sig(digest, old_signature) == convert(word & ADDRESS_MASK, address)
    ), "registry: not signed by the key in force"
    # Never the zero address, which no signature gives.
    assert ecdsa._recover_sig(digest, new_signature) == device, "registry: not signed by the device"
    self._rotate(meter, device, valid_from, SIGNED)


@external
def suspend_key(meter: uint256):
    """
    @notice Ends the meter's key now; nothing that it signs for a later moment counts. A rotation
            that has not begun yet keeps its time where the registrar set it, and never begins
            where this key had signed for it.
    """
    assert msg.sender == self.registrar, "registry: caller is not the registrar"
    word: uint256 = self._key_at(meter, block.timestamp)
    assert word != 0, "registry: no key in force"
    self._end_key(meter, word, block.timestamp)


@external
def report_conflict(
    meter: uint256, market: address, slot: uint256, one: Receipt, other: Receipt
):
    """
    @notice Anyone proves that the meter's device signed two delivery receipts that name different
            energy for one slot. Its key ends where the earlier of the two sessions begins, or
            with its own first second where that is later, at once and for good. What it handed
            over to by signature, in the last 30 days or for a time to come, ends now.
    @dev This is the one place that changes what `device_at` says of the past: from the new end
         on it answers zero where it named the device. Receipts of that time that are not settled
         yet count as missing, and old signatures of that time no longer verify. What was settled
         stays settled, and before the new end nothing changes. It only ever takes validity away,
         so a later conflict of earlier sessions moves the end further back, and no other
         conflict can be reported again.
    @param market The market that both receipts were signed for.
    @param slot The absolute slot for which they differ.
    """
    wh_a: uint256 = self._wh_in(one, slot)
    wh_b: uint256 = self._wh_in(other, slot)
    assert wh_a != wh_b, "registry: receipts agree"
    word: uint256 = self._key_at(meter, self._last_second(one))
    assert word != 0, "registry: no key in force"
    assert self._holds(word, self._last_second(other)), "registry: not the same key"
    separator: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPE, MARKET_NAME, DOMAIN_VERSION, chain.id, market)
    )
    device: address = convert(word & ADDRESS_MASK, address)
    assert self._signer(separator, meter, one) == device, "registry: not the device's receipt"
    assert self._signer(separator, meter, other) == device, "registry: not the device's receipt"
    start: uint256 = min(one.first_slot, other.first_slot) * SLOT_SECONDS
    self._end_key(meter, word, max(start, word >> VALID_FROM))
    log ReceiptConflict(meter=meter, device=device, slot=slot, wh_a=wh_a, wh_b=wh_b)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def metering_point(meter: uint256) -> (address, uint256):
    """
    @return The owner and the zone of the metering point; zeros where it is unknown.
    """
    point: uint256 = self._points[meter]
    return convert(point & ADDRESS_MASK, address), point >> 160


@view
@external
def device_at(meter: uint256, moment: uint256) -> address:
    """
    @return The device key of the meter that is valid at the unix time `moment`, or zero. The
            answer for a past moment changes only by `report_conflict`, and only to zero.
    """
    if meter >= MAX_METERS:
        return empty(address)
    return convert(self._key_at(meter, moment) & ADDRESS_MASK, address)


@view
@external
def devices_at(
    meters: DynArray[uint256, MAX_LOOKUP], moment: uint256
) -> DynArray[address, MAX_LOOKUP]:
    """
    @return For each meter the device key valid at the unix time `moment`, or zero. A number that
            no meter can have, from 2**32 on, reverts.
    """
    devices: DynArray[address, MAX_LOOKUP] = []
    for meter: uint256 in meters:
        word: uint256 = self._keys[meter]
        # As `_holds`, written out: every settlement asks this for every seller.
        if unsafe_sub(moment, word >> VALID_FROM) >= (word >> SECONDS) & TIME_MASK:
            word = self._key_at(meter, moment)
        devices.append(convert(word & ADDRESS_MASK, address))
    return devices


@view
@external
def speak_for(claims: uint256[MAX_CLAIMS], moment: uint256) -> bool:
    """
    @return Whether each device is its meter's key valid at the unix time `moment`; a zero device
            never is. A number that no meter can have, from 2**32 on, reverts.
    @param claims `meter << 160 | device`, or 0 for none.
    """
    for claim: uint256 in claims:
        if claim == 0:
            continue
        word: uint256 = self._keys[claim >> 160]
        # As `_holds`, written out: every settlement asks this for every seller.
        if unsafe_sub(moment, word >> VALID_FROM) >= (word >> SECONDS) & TIME_MASK:
            word = self._key_at(claim >> 160, moment)
            if word == 0:
                return False
        if (word ^ claim) & ADDRESS_MASK != 0:
            return False
    return True


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _rotate(meter: uint256, device: address, valid_from: uint256, signed: uint256):
    """
    @param signed SIGNED, or 0 where the registrar rotates.
    """
    assert (
        valid_from >= block.timestamp and valid_from <= block.timestamp + MAX_AHEAD
    ), "registry: start out of range"
    newest: uint256 = self._keys[meter]
    start: uint256 = newest >> VALID_FROM
    number: uint256 = (newest >> NUMBER) & NUMBER_MASK
    if start > block.timestamp:
        # A meter's first key begins at once, so there is one before. Where it ends only because
        # the rotation would begin, it now ends where this one does; else something else ended it.
        before: uint256 = self._older[meter][number - 1]
        if self._end_of(before) == start:
            self._older[meter][number - 1] = self._ended(before, valid_from)
        # Freed here, the signatures that brought the device in would bring it in again.
        if signed == 0:
            self.meter_of_device[convert(newest & ADDRESS_MASK, address)] = 0
    else:
        if (newest >> SECONDS) & TIME_MASK == OPEN:
            newest = self._ended(newest, valid_from)
        self._older[meter][number] = newest
        number += 1
        assert number < MAX_KEYS, "registry: too many keys"
        assert signed == 0 or number < MAX_SIGNED_KEYS, "registry: too many signed rotations"
    self._put_key(meter, number, device, valid_from, signed)
    log KeyRotated(meter=meter, device=device, valid_from=valid_from)


@internal
def _put_key(
    meter: uint256, number: uint256, device: address, valid_from: uint256, signed: uint256
):
    assert device != empty(address), "registry: device is the zero address"
    assert self.meter_of_device[device] == 0, "registry: device already speaks for a meter"
    self.meter_of_device[device] = meter
    self._keys[meter] = (
        convert(device, uint256)
        | (number << NUMBER)
        | signed
        | (OPEN << SECONDS)
        | (valid_from << VALID_FROM)
    )


@internal
def _end_key(meter: uint256, word: uint256, moment: uint256):
    """
    @notice Ends the key at the moment and, from now on, those that it handed over to by signature
            and that these handed over to.
    """
    self._close_key(meter, word, moment)
    newest: uint256 = self._keys[meter]
    last: uint256 = (newest >> NUMBER) & NUMBER_MASK
    number: uint256 = (word >> NUMBER) & NUMBER_MASK
    for _: uint256 in range(MAX_KEYS):
        if number == last:
            return
        number += 1
        heir: uint256 = newest
        if number != last:
            heir = self._older[meter][number]
        start: uint256 = heir >> VALID_FROM
        if heir & SIGNED == 0 or start + MAX_RECENT < block.timestamp:
            return
        # One still to come ends where it would begin, and so never does.
        end: uint256 = max(start, block.timestamp)
        if end < self._end_of(heir):
            self._close_key(meter, heir, end)


@internal
def _close_key(meter: uint256, word: uint256, moment: uint256):
    number: uint256 = (word >> NUMBER) & NUMBER_MASK
    if number == (self._keys[meter] >> NUMBER) & NUMBER_MASK:
        self._keys[meter] = self._ended(word, moment)
    else:
        self._older[meter][number] = self._ended(word, moment)
    log KeySuspended(
        meter=meter, device=convert(word & ADDRESS_MASK, address), valid_to=moment
    )


@pure
@internal
def _ended(word: uint256, moment: uint256) -> uint256:
    """
    @return The key word with the moment, not before its start, as its end.
    """
    return (word & ~(TIME_MASK << SECONDS)) | ((moment - (word >> VALID_FROM)) << SECONDS)


@pure
@internal
def _end_of(word: uint256) -> uint256:
    return (word >> VALID_FROM) + ((word >> SECONDS) & TIME_MASK)


@pure
@internal
def _holds(word: uint256, moment: uint256) -> bool:
    # Before its start the difference wraps around, and is longer than any period.
    return unsafe_sub(moment, word >> VALID_FROM) < (word >> SECONDS) & TIME_MASK


@view
@internal
def _key_at(meter: uint256, moment: uint256) -> uint256:
    """
    @return The word of the key that is valid at the moment, or zero.
    """
    word: uint256 = self._keys[meter]
    # Newest first; a key ends no later than the next begins.
    for _: uint256 in range(MAX_KEYS):
        if self._holds(word, moment):
            return word
        number: uint256 = (word >> NUMBER) & NUMBER_MASK
        if number == 0 or moment >= word >> VALID_FROM:
            break
        word = self._older[meter][number - 1]
    return 0


@view
@internal
def _last_second(receipt: Receipt) -> uint256:
    """
    @return The moment for which the market asks for the key of a receipt.
    """
    end: uint256 = (receipt.first_slot + receipt.slots) * SLOT_SECONDS
    # Until then the market takes no receipt either.
    assert end <= block.timestamp, "registry: delivery is not over"
    return end - 1


@pure
@internal
def _wh_in(receipt: Receipt, slot: uint256) -> uint256:
    slots: uint256 = receipt.slots
    assert slots != 0 and slots <= MAX_SLOTS, "registry: slots out of range"
    assert len(receipt.exports) == (slots + 15) // 16, "registry: receipt is cut off"
    assert (
        slot >= receipt.first_slot and slot - receipt.first_slot < slots
    ), "registry: slot outside the receipt"
    place: uint256 = slot - receipt.first_slot
    return (receipt.exports[place // 16] >> (16 * (place % 16))) & 65_535


@view
@internal
def _signer(separator: bytes32, meter: uint256, receipt: Receipt) -> address:
    """
    @return Who signed the receipt, or zero where the signature is none.
    """
    vs: uint256 = convert(receipt.vs, uint256)
    s: uint256 = vs & (2**255 - 1)
    if s > MAX_S:
        return empty(address)
    # abi_encode puts the offset and the length first; EIP-712 hashes the words alone.
    words: Bytes[64 + 32 * MAX_EXPORT_WORDS] = abi_encode(receipt.exports)
    exports: bytes32 = keccak256(slice(words, 64, 32 * len(receipt.exports)))
    struct_hash: bytes32 = keccak256(
        abi_encode(RECEIPT_TYPE, meter, receipt.first_slot, receipt.slots, exports)
    )
    digest: bytes32 = keccak256(concat(b"\x19\x01", separator, struct_hash))
    return ecrecover(digest, 27 + (vs >> 255), convert(receipt.r, uint256), s)
