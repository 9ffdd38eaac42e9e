# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Grid timelock
@notice Owns every other contract. What the members decide is scheduled here, waits in the
        open for at least the minimum delay, and is then executed as one batch: all of its
        calls, or none.
@dev Names, events and operation ids are those of OpenZeppelin's TimelockController; roles are
     snekmate's `access_control`. snekmate's own `timelock_controller` is not used because it
     takes up to 255 calls of 1,024 bytes: a memory frame of 280 kB, which costs about 175,000
     gas in every schedule and execution, whatever is passed. Eight calls need 9 kB.
     The roles are administered by the timelock itself; an optional admin serves deployment
     and renounces. The governor holds the roles PROPOSER, CANCELLER and EXECUTOR: anyone
     executes through the governor, which refuses what has expired.
"""

from snekmate.auth import access_control
from interfaces import IGridTimelock

implements: IGridTimelock
initializes: access_control
exports: (
    access_control.DEFAULT_ADMIN_ROLE,
    access_control.hasRole,
    access_control.getRoleAdmin,
    access_control.grantRole,
    access_control.revokeRole,
    access_control.renounceRole,
    access_control.supportsInterface,
)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

PROPOSER_ROLE: public(constant(bytes32)) = keccak256("PROPOSER_ROLE")
EXECUTOR_ROLE: public(constant(bytes32)) = keccak256("EXECUTOR_ROLE")
CANCELLER_ROLE: public(constant(bytes32)) = keccak256("CANCELLER_ROLE")

# A decision is a handful of calls; the bound sets the memory that every batch pays for.
MAX_CALLS: constant(uint256) = 8
# Thirty words of arguments: more than any privileged function of these contracts takes.
MAX_CALLDATA: constant(uint256) = 1_024
# One slot: the shortest time in which a gateway that polls every slot sees what is coming.
MIN_DELAY: public(constant(uint256)) = 900
# A longer delay could lock the members out of their own rules for good.
MAX_DELAY: public(constant(uint256)) = 30 * 86_400
# As OpenZeppelin marks an operation that was executed.
DONE: constant(uint256) = 1


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event CallScheduled:
    id: indexed(bytes32)
    index: indexed(uint256)
    target: address
    value: uint256
    data: Bytes[MAX_CALLDATA]
    predecessor: bytes32
    delay: uint256


event CallExecuted:
    id: indexed(bytes32)
    index: indexed(uint256)
    target: address
    value: uint256
    data: Bytes[MAX_CALLDATA]


event CallSalt:
    id: indexed(bytes32)
    salt: bytes32


event Cancelled:
    id: indexed(bytes32)


event MinDelayChange:
    oldDuration: uint256
    newDuration: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

# When an operation becomes ready; 0: unknown, 1: done
getTimestamp: public(HashMap[bytes32, uint256])
getMinDelay: public(uint256)


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(min_delay: uint256, admin: address):
    """
    @param min_delay Shortest time in seconds between scheduling and execution.
    @param admin Grants the roles during deployment and then renounces; zero for none.
    """
    access_control.__init__()
    access_control._grant_role(access_control.DEFAULT_ADMIN_ROLE, self)
    access_control._revoke_role(access_control.DEFAULT_ADMIN_ROLE, msg.sender)
    if admin != empty(address):
        access_control._grant_role(access_control.DEFAULT_ADMIN_ROLE, admin)
    self._set_min_delay(min_delay)


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
@payable
def __default__():
    """
    @notice Receives the chain's own coin, so that decisions can spend it.
    """
    pass


@external
def scheduleBatch(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    payloads: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    predecessor: bytes32,
    salt: bytes32,
    delay: uint256,
):
    """
    @notice Schedules a batch of calls. Proposers only.
    @param targets The contracts to call, in order.
    @param values The wei that each call carries.
    @param payloads The ABI-encoded call of each target.
    @param predecessor An operation that must be done before this one; zero for none.
    @param salt Tells batches with the same calls apart.
    @param delay Seconds until it is ready; at least the minimum delay.
    """
    access_control._check_role(PROPOSER_ROLE, msg.sender)
    assert len(targets) == len(values), "timelock: one value per target"
    assert len(targets) == len(payloads), "timelock: one payload per target"
    assert delay >= self.getMinDelay, "timelock: delay below the minimum"
    assert delay <= MAX_DELAY, "timelock: delay above the maximum"
    id: bytes32 = keccak256(abi_encode(targets, values, payloads, predecessor, salt))
    assert self.getTimestamp[id] == 0, "timelock: already scheduled"
    self.getTimestamp[id] = block.timestamp + delay
    for i: uint256 in range(len(targets), bound=MAX_CALLS):
        log CallScheduled(
            id=id,
            index=i,
            target=targets[i],
            value=values[i],
            data=payloads[i],
            predecessor=predecessor,
            delay=delay,
        )
    if salt != empty(bytes32):
        log CallSalt(id=id, salt=salt)


@external
@nonreentrant
def executeBatch(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    payloads: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    predecessor: bytes32,
    salt: bytes32,
):
    """
    @notice Executes a batch that is ready. Executors only. One failing call reverts them all,
            with its own reason.
    @dev No batch runs inside another: neither twice, nor before its predecessor has ended.
    """
    access_control._check_role(EXECUTOR_ROLE, msg.sender)
    id: bytes32 = keccak256(abi_encode(targets, values, payloads, predecessor, salt))
    ready_at: uint256 = self.getTimestamp[id]
    assert ready_at > DONE, "timelock: not scheduled"
    assert ready_at <= block.timestamp, "timelock: not ready"
    if predecessor != empty(bytes32):
        assert self.getTimestamp[predecessor] == DONE, "timelock: predecessor not done"
    self.getTimestamp[id] = DONE
    for i: uint256 in range(len(targets), bound=MAX_CALLS):
        # A call to an address without code succeeds and does nothing: it would look executed.
        if len(payloads[i]) != 0:
            assert targets[i].is_contract, "timelock: target has no code"
        raw_call(targets[i], payloads[i], value=values[i])
        log CallExecuted(id=id, index=i, target=targets[i], value=values[i], data=payloads[i])


@external
def cancel(id: bytes32):
    """
    @notice Cancels a batch that is not executed yet. Cancellers only.
    """
    access_control._check_role(CANCELLER_ROLE, msg.sender)
    assert self.getTimestamp[id] > DONE, "timelock: not pending"
    self.getTimestamp[id] = 0
    log Cancelled(id=id)


@external
def updateDelay(newDelay: uint256):
    """
    @notice Sets the minimum delay in seconds. Only by a batch of the timelock itself.
    """
    assert msg.sender == self, "timelock: caller is not the timelock"
    self._set_min_delay(newDelay)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def isOperation(id: bytes32) -> bool:
    """
    @return Whether the operation was ever scheduled and not cancelled.
    """
    return self.getTimestamp[id] != 0


@view
@external
def isOperationPending(id: bytes32) -> bool:
    """
    @return Whether the operation is scheduled and not executed, ready or not.
    """
    return self.getTimestamp[id] > DONE


@view
@external
def isOperationReady(id: bytes32) -> bool:
    """
    @return Whether the operation may be executed now.
    """
    ready_at: uint256 = self.getTimestamp[id]
    return ready_at > DONE and ready_at <= block.timestamp


@view
@external
def isOperationDone(id: bytes32) -> bool:
    """
    @return Whether the operation was executed.
    """
    return self.getTimestamp[id] == DONE


@pure
@external
def hashOperationBatch(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    payloads: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    predecessor: bytes32,
    salt: bytes32,
) -> bytes32:
    """
    @return The id of the operation, as OpenZeppelin computes it.
    """
    return keccak256(abi_encode(targets, values, payloads, predecessor, salt))


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _set_min_delay(delay: uint256):
    assert delay >= MIN_DELAY and delay <= MAX_DELAY, "timelock: delay out of range"
    log MinDelayChange(oldDuration=self.getMinDelay, newDuration=delay)
    self.getMinDelay = delay
