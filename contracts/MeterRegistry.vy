# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Meter registry
@notice Which device key speaks for which metering point, who owns the point and in which
        zone it lies. A metering point is a number, counted from 1; the same number is the
        market account. Keys have a period of validity, and past periods stay readable, so
        that an old reading can be checked against the key of its own time.
"""

from snekmate.auth import ownable
from interfaces import IMeterRegistry

implements: IMeterRegistry
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# A transaction holds 16.7 million gas (EIP-7825); a registration costs about 75,000.
MAX_BATCH: constant(uint256) = 128
# Callers ask for the keys of one session's sellers; a larger bound costs every caller memory.
MAX_LOOKUP: constant(uint256) = 256
# A meter's key is replaced when the device is: eight in a lifetime bound the search.
MAX_KEYS: constant(uint256) = 8
# A zone number must fit the market's packed account word (10 bits).
MAX_ZONE: constant(uint256) = 1_023

ADDRESS_MASK: constant(uint256) = 2**160 - 1
# The key word: device | valid_from << 160 | valid_to << 200 (0: open) | older keys << 240
TIME_MASK: constant(uint256) = 2**40 - 1
VALID_FROM: constant(uint256) = 160
VALID_TO: constant(uint256) = 200
OLDER: constant(uint256) = 240


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


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

registrar: public(address)
meter_count: public(uint256)

# owner in the low 160 bits, zone above
_points: HashMap[uint256, uint256]
# The newest key alone in one word: nearly every question is about it, and costs one read.
_keys: HashMap[uint256, uint256]
# meter -> position, oldest first -> key word
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
        self._points[meter] = convert(owners[i], uint256) | (zone << 160)
        self._add_key(meter, devices[i])
        log MeterRegistered(meter=meter, owner=owners[i], zone=zone, device=devices[i])
    # The market packs the number of an account into 32 bits.
    assert meter < 2**32, "registry: no numbers left"
    self.meter_count = meter


@external
def rotate_key(meter: uint256, device: address):
    """
    @notice Ends the meter's key now and gives it a new one, valid from now on.
    """
    assert msg.sender == self.registrar, "registry: caller is not the registrar"
    assert self._points[meter] != 0, "registry: unknown meter"
    self._close_key(meter)
    self._add_key(meter, device)
    log KeyRotated(meter=meter, device=device, valid_from=block.timestamp)


@external
def suspend_key(meter: uint256):
    """
    @notice Ends the meter's key now; nothing that it signs for a later moment counts.
    """
    assert msg.sender == self.registrar, "registry: caller is not the registrar"
    device: address = self._close_key(meter)
    assert device != empty(address), "registry: no key in force"
    log KeySuspended(meter=meter, device=device, valid_to=block.timestamp)


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
    @return The device key of the meter that is valid at the unix time `moment`, or zero.
    """
    return self._device_at(meter, moment)


@view
@external
def devices_at(
    meters: DynArray[uint256, MAX_LOOKUP], moment: uint256
) -> DynArray[address, MAX_LOOKUP]:
    """
    @return For each meter the device key valid at the unix time `moment`, or zero.
    """
    devices: DynArray[address, MAX_LOOKUP] = []
    for meter: uint256 in meters:
        devices.append(self._device_at(meter, moment))
    return devices


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _add_key(meter: uint256, device: address):
    assert device != empty(address), "registry: device is the zero address"
    assert self.meter_of_device[device] == 0, "registry: device already speaks for a meter"
    newest: uint256 = self._keys[meter]
    older: uint256 = 0
    if newest != 0:
        older = newest >> OLDER
        assert older + 1 < MAX_KEYS, "registry: too many keys"
        self._older[meter][older] = newest
        older += 1
    self.meter_of_device[device] = meter
    self._keys[meter] = (
        convert(device, uint256) | (block.timestamp << VALID_FROM) | (older << OLDER)
    )


@internal
def _close_key(meter: uint256) -> address:
    """
    @return The key that ended, or zero where none was in force.
    """
    word: uint256 = self._keys[meter]
    if word == 0 or (word >> VALID_TO) & TIME_MASK != 0:
        return empty(address)
    self._keys[meter] = word | (block.timestamp << VALID_TO)
    return convert(word & ADDRESS_MASK, address)


@view
@internal
def _device_at(meter: uint256, moment: uint256) -> address:
    word: uint256 = self._keys[meter]
    older: uint256 = word >> OLDER
    # Newest first; a key ends no later than the next begins.
    for i: uint256 in range(MAX_KEYS):
        if word == 0:
            break
        if moment >= (word >> VALID_FROM) & TIME_MASK:
            end: uint256 = (word >> VALID_TO) & TIME_MASK
            if end != 0 and moment >= end:
                break
            return convert(word & ADDRESS_MASK, address)
        if i == older:
            break
        word = self._older[meter][older - 1 - i]
    return empty(address)
