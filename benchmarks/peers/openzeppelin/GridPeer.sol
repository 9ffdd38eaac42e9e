// SPDX-License-Identifier: Apache-2.0
// What a neighbourhood would build from OpenZeppelin's parts to decide as it does with ours: a
// soulbound membership, a governor with all that ours has a part for, and a relay's batch of
// votes. Measured by benchmarks/openzeppelin.py; never deployed for anybody's use.
pragma solidity 0.8.37;

import {Governor} from "@openzeppelin/contracts/governance/Governor.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {
    GovernorCountingFractional
} from "@openzeppelin/contracts/governance/extensions/GovernorCountingFractional.sol";
import {
    GovernorPreventLateQuorum
} from "@openzeppelin/contracts/governance/extensions/GovernorPreventLateQuorum.sol";
import {GovernorSettings} from "@openzeppelin/contracts/governance/extensions/GovernorSettings.sol";
import {GovernorStorage} from "@openzeppelin/contracts/governance/extensions/GovernorStorage.sol";
import {
    GovernorTimelockControl
} from "@openzeppelin/contracts/governance/extensions/GovernorTimelockControl.sol";
import {GovernorVotes} from "@openzeppelin/contracts/governance/extensions/GovernorVotes.sol";
import {
    GovernorVotesQuorumFraction
} from "@openzeppelin/contracts/governance/extensions/GovernorVotesQuorumFraction.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC721Votes} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721Votes.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @notice One member, one token, one vote; it cannot be passed on.
contract PeerMembership is ERC721Votes {
    address private immutable registrar = msg.sender;

    error OnlyRegistrar();
    error AlreadyMember(address account);
    error Soulbound();

    constructor() ERC721("Membership", "MEMBER") EIP712("Membership", "1") {}

    /// @notice Admits members, each with its own vote from the start, so that nobody has to
    /// delegate to itself first.
    function admit(address[] calldata members) external {
        require(msg.sender == registrar, OnlyRegistrar());
        for (uint256 i = 0; i < members.length; ++i) {
            require(balanceOf(members[i]) == 0, AlreadyMember(members[i]));
            _mint(members[i], uint160(members[i]));
            _delegate(members[i], members[i]);
        }
    }

    function clock() public view override returns (uint48) {
        return uint48(block.timestamp);
    }

    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    function _update(
        address to,
        uint256 tokenId,
        address auth
    ) internal override returns (address from) {
        from = super._update(to, tokenId, auth);
        require(from == address(0) || to == address(0), Soulbound());
    }
}

/// @notice The full set: storage, fractional counting, quorum fraction, late quorum, timelock.
contract PeerGovernor is
    Governor,
    GovernorSettings,
    GovernorStorage,
    GovernorCountingFractional,
    GovernorVotes,
    GovernorVotesQuorumFraction,
    GovernorPreventLateQuorum,
    GovernorTimelockControl
{
    constructor(
        IVotes members,
        TimelockController timelock_,
        uint48 delay,
        uint32 period,
        uint48 extension,
        uint256 quorumPercent
    )
        Governor("GridGovernor")
        // A threshold of one vote: members may propose, others may not.
        GovernorSettings(delay, period, 1)
        GovernorVotes(members)
        GovernorVotesQuorumFraction(quorumPercent)
        GovernorPreventLateQuorum(extension)
        GovernorTimelockControl(timelock_)
    {}

    function proposalDeadline(
        uint256 proposalId
    ) public view override(Governor, GovernorPreventLateQuorum) returns (uint256) {
        return super.proposalDeadline(proposalId);
    }

    function proposalNeedsQueuing(
        uint256 proposalId
    ) public view override(Governor, GovernorTimelockControl) returns (bool) {
        return super.proposalNeedsQueuing(proposalId);
    }

    function proposalThreshold()
        public
        view
        override(Governor, GovernorSettings)
        returns (uint256)
    {
        return super.proposalThreshold();
    }

    function state(
        uint256 proposalId
    ) public view override(Governor, GovernorTimelockControl) returns (ProposalState) {
        return super.state(proposalId);
    }

    function _cancel(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint256) {
        return super._cancel(targets, values, calldatas, descriptionHash);
    }

    function _executeOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) {
        super._executeOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _executor()
        internal
        view
        override(Governor, GovernorTimelockControl)
        returns (address)
    {
        return super._executor();
    }

    function _propose(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        string memory description,
        address proposer
    ) internal virtual override(Governor, GovernorStorage) returns (uint256) {
        return super._propose(targets, values, calldatas, description, proposer);
    }

    function _queueOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint48) {
        return super._queueOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _tallyUpdated(
        uint256 proposalId
    ) internal override(Governor, GovernorPreventLateQuorum) {
        super._tallyUpdated(proposalId);
    }
}

/// @notice The same without what GovernorStorage keeps, for what a proposal then costs.
contract PeerGovernorPlain is PeerGovernor {
    constructor(
        IVotes members,
        TimelockController timelock_,
        uint48 delay,
        uint32 period,
        uint48 extension,
        uint256 quorumPercent
    ) PeerGovernor(members, timelock_, delay, period, extension, quorumPercent) {}

    function _propose(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        string memory description,
        address proposer
    ) internal override returns (uint256) {
        return Governor._propose(targets, values, calldatas, description, proposer);
    }
}

/// @notice Carries many signed votes in one transaction. The governor has no batch of its own, but
/// a signed vote counts whoever brings it, so a relay could write this.
contract PeerBatch {
    struct SignedVote {
        address voter;
        uint8 support;
        bytes signature;
    }

    function castVotes(
        Governor governor,
        uint256 proposalId,
        SignedVote[] calldata votes
    ) external {
        for (uint256 i = 0; i < votes.length; ++i) {
            SignedVote calldata vote = votes[i];
            governor.castVoteBySig(proposalId, vote.support, vote.voter, vote.signature);
        }
    }
}
