# SPDX-License-Identifier: Apache-2.0
"""The chain as the program uses it: deploy, transact, call, read logs, and set simulated time.

Ape chooses and opens the network and, on public ones, unlocks the account that pays. On a local
node a transaction is signed here and sent raw over Ape's own connection, which takes about 4 ms
instead of Ape's 35 ms. Ape is imported only when a chain is opened.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dao.abi import Interface, revert_reason
from dao.anvil import MNEMONIC, TRANSACTION_GAS_LIMIT, checkout_root
from dao.artifacts import Artifact, load_artifacts, prepare_ape
from dao.eip712 import address_of, checksum_address
from dao.errors import BadUse, CheckFailed
from dao.paths import home

if TYPE_CHECKING:
    from ape.api import AccountAPI, ProviderAPI
    from ape.api.networks import ProviderContextManager
    from ape.managers.networks import NetworkManager

# Local fees: the base fee starts at 1 gwei and only falls, because no block is half full.
_LOCAL_MAX_FEE = 2 * 10**9
_REQUEST_TIMEOUT = 60
_RECEIPT_PATIENCE = 300.0


class ContractReverted(CheckFailed):
    """A call or transaction that a contract refused, with the contract's own reason."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} reverted: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class LocalAccount:
    """An account whose private key this process holds."""

    address: str
    key: bytes

    @classmethod
    def from_key(cls, key: bytes) -> LocalAccount:
        """The account of a 32-byte private key."""
        return cls(address=address_of(key), key=key)

    def __repr__(self) -> str:
        return f"LocalAccount({self.address})"  # the key stays out of logs


@dataclass(frozen=True)
class ApeAccount:
    """An account that Ape unlocks and signs with: a key file or a hardware wallet."""

    address: str
    account: AccountAPI

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        """Its signature of EIP-712 typed data, 65 bytes r || s || v. CheckFailed where the account
        does not sign by itself."""
        from eth_account.messages import encode_typed_data

        signature = self.account.sign_message(encode_typed_data(full_message=document))
        if signature is None:
            raise CheckFailed(f"the account {self.address} did not sign; is it locked?")
        return bytes(signature.encode_rsv())


Account = LocalAccount | ApeAccount


@dataclass(frozen=True)
class Event:
    """One decoded log. `args`: integers exact, addresses with checksum, bytes as bytes."""

    contract: str
    name: str
    args: Mapping[str, Any]
    address: str
    block: int
    log_index: int


@dataclass(frozen=True)
class Receipt:
    """A mined transaction. `logs` are as the node sends them."""

    tx: str
    block: int
    gas_used: int
    logs: tuple[Mapping[str, Any], ...]
    contract_address: str | None
    events: tuple[Event, ...]

    def event(self, name: str) -> Event:
        """The only event called `name`. Raises CheckFailed unless there is exactly one."""
        found = [event for event in self.events if event.name == name]
        if len(found) != 1:
            raise CheckFailed(f"transaction {self.tx} has {len(found)} events {name}, not one")
        return found[0]


@dataclass(frozen=True)
class Contract:
    """A deployed contract on an open chain."""

    name: str
    address: str
    interface: Interface
    chain: Chain

    def encode(self, function: str, *args: Any) -> bytes:
        """Call data, as proposals carry it."""
        return self.interface.encode_call(function, args)

    def call(
        self, function: str, *args: Any, sender: str | None = None, block: int | str = "latest"
    ) -> Any:
        """What a view returns: one value, a tuple of several, structs as dicts.

        Raises ContractReverted with the contract's reason.
        """
        data = self.chain.call(
            self.address, self.encode(function, *args), sender, block, f"{self.name}.{function}"
        )
        return self.interface.decode_result(function, len(args), data)

    def transact(
        self, function: str, *args: Any, sender: Account | None = None, gas: int | None = None
    ) -> Receipt:
        """Send a transaction and wait until it is mined. Raises ContractReverted."""
        return self.chain.send(
            self.address,
            self.encode(function, *args),
            sender,
            gas=gas,
            what=f"{self.name}.{function}",
        )

    def events(self, name: str, first_block: int = 0, last_block: int | None = None) -> list[Event]:
        """This contract's events called `name`, in chain order."""
        topics = [self.interface.topic(name)]
        return self.chain.logs([self.address], first_block, last_block, topics)


def is_away(error: BaseException) -> bool:
    """Whether an error means that the node does not answer, not that it refused."""
    return isinstance(error, CheckFailed) and isinstance(error.__cause__, OSError)


class Chain:
    """An open connection to a chain, as a context manager. See `local` and `connect`."""

    def __init__(
        self,
        provider: ProviderAPI,
        stack: ExitStack,
        url: str,
        *,
        deployer: Account,
        is_local: bool,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url
        self.deployer = deployer
        self.is_local = is_local
        self.gas_used = 0
        """Gas of all transactions sent here."""
        self.transactions = 0
        self._provider = provider
        self._web3 = getattr(provider, "web3", None)
        self._stack = stack
        self._notify = notify
        self._nonces: dict[str, int] = {}
        self._known: dict[str, tuple[str, Interface]] = {}
        self.chain_id = int(self.rpc("eth_chainId"), 16)

    # Opening and closing

    @classmethod
    def local(
        cls,
        url: str,
        *,
        hold_time: bool = True,
        notify: Callable[[str], None] | None = None,
    ) -> Chain:
        """Open the local node that already runs at `url`; no second node is started.

        From here on a block's time is its parent's until `set_time` moves it, so that a run's
        figures do not depend on how fast the machine is. Without hold_time the node's time is left
        as it is: for who lives with the node, and does not drive it.
        Raises CheckFailed when nothing answers there.
        """
        settings = {"host": url, "manage_process": False, "request_timeout": _REQUEST_TIMEOUT}
        provider, stack = _open("ethereum:local:foundry", settings, url)
        try:
            deployer = local_accounts()[0]
            chain = cls(provider, stack, url, deployer=deployer, is_local=True, notify=notify)
            if hold_time:
                chain.rpc("anvil_setBlockTimestampInterval", 0)
        except BaseException:
            stack.close()
            raise
        return chain

    @classmethod
    def connect(
        cls,
        network_choice: str,
        account_alias: str,
        *,
        notify: Callable[[str], None] | None = None,
    ) -> Chain:
        """Open any network by Ape's name for it (`ethereum:sepolia:node`), paying with the Ape
        account `account_alias` (`ape accounts list`).

        Raises BadUse on an unknown network or account, CheckFailed when the node is unreachable.
        """
        provider, stack = _open(network_choice, None, network_choice)
        try:
            account = _ape_account(account_alias)
            url = str(getattr(provider, "http_uri", None) or network_choice)
            return cls(provider, stack, url, deployer=account, is_local=False, notify=notify)
        except BaseException:
            stack.close()
            raise

    def close(self) -> None:
        """Give the connection back. The node goes on."""
        self._stack.close()

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Contracts

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """The compiled contracts by name."""
        return load_artifacts(notify=self._notify)

    def deploy(self, name: str, *args: Any, sender: Account | None = None) -> Contract:
        """Deploy the contract `name` with its constructor's arguments."""
        artifact = self._artifact(name)
        data = artifact.bytecode + artifact.interface.encode_deploy(args)
        receipt = self.send(None, data, sender, what=f"deployment of {name}")
        if receipt.contract_address is None:
            raise CheckFailed(f"deployment of {name} left no contract")
        return self.at(name, receipt.contract_address)

    def at(self, name: str, address: str) -> Contract:
        """The contract `name` that lies at `address`; its events are decoded from then on."""
        address = checksum_address(address)
        interface = self._artifact(name).interface
        self._known[address.lower()] = (name, interface)
        return Contract(name=name, address=address, interface=interface, chain=self)

    def _artifact(self, name: str) -> Artifact:
        artifact = self.artifacts.get(name)
        if artifact is None:
            known = ", ".join(sorted(self.artifacts))
            raise BadUse(f"there is no contract {name!r}; there are {known}")
        return artifact

    # Transactions and calls

    def send(
        self,
        to: str | None,
        data: bytes,
        sender: Account | None = None,
        *,
        value: int = 0,
        gas: int | None = None,
        what: str = "the transaction",
    ) -> Receipt:
        """Send one transaction and wait for it. `to` None creates a contract; `value` in wei.

        Raises ContractReverted when it fails, CheckFailed when the node does not take it.
        """
        account = sender or self.deployer
        if isinstance(account, LocalAccount):
            raw = self._send_signed(account, to, data, value, gas, what)
        else:
            raw = self._send_through_ape(account, to, data, value, gas, what)
        receipt = self._receipt(raw)
        self.gas_used += receipt.gas_used
        self.transactions += 1
        if int(raw["status"], 16) != 1:
            raise ContractReverted(what, self._why(receipt, gas))
        return receipt

    def call(
        self,
        to: str,
        data: bytes,
        sender: str | None = None,
        block: int | str = "latest",
        what: str = "the call",
    ) -> bytes:
        """The bytes a call returns, at a block number or tag."""
        request = {"to": to, "data": "0x" + data.hex()}
        if sender is not None:
            request["from"] = sender
        at = block if isinstance(block, str) else hex(block)
        answer = self._request("eth_call", [request, at])
        if (error := answer.get("error")) is not None:
            raise ContractReverted(what, _reason_of_error(error))
        result = str(answer["result"])
        if result == "0x" and self.rpc("eth_getCode", to, at) in ("0x", None):
            raise CheckFailed(f"{what}: there is no contract at {to} on {self.url}")
        return bytes.fromhex(result[2:])

    def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC request's result. Raises CheckFailed on an error or when unreachable."""
        answer = self._request(method, list(params))
        if (error := answer.get("error")) is not None:
            message = error.get("message", error) if isinstance(error, dict) else error
            raise CheckFailed(f"the node at {self.url} refused {method}: {message}")
        return answer.get("result")

    def logs(
        self,
        addresses: Sequence[str],
        first_block: int = 0,
        last_block: int | None = None,
        topics: Sequence[str | Sequence[str] | None] = (),
    ) -> list[Event]:
        """Decoded events of known contracts (`at`, `deploy`), in chain order, ends included.

        topics: as the node's filter takes them, by position: one, any of several, None for any.
        Where the node refuses so many blocks at once they are asked for in halves. Raises
        CheckFailed when it does not answer, or refuses a single block.
        """
        wanted = {
            "address": list(addresses),
            "fromBlock": hex(first_block),
            "toBlock": "latest" if last_block is None else hex(last_block),
            "topics": list(topics),
        }
        try:
            raw = self.rpc("eth_getLogs", wanted)
        except CheckFailed as refused:
            if is_away(refused):
                raise
            last = self.block_number() if last_block is None else last_block
            if first_block >= last:
                raise
            middle = (first_block + last) // 2
            return [
                *self.logs(addresses, first_block, middle, topics),
                *self.logs(addresses, middle + 1, last, topics),
            ]
        return [event for log in raw if (event := self.decode_log(log)) is not None]

    def decode_log(self, log: Mapping[str, Any]) -> Event | None:
        """A log as the node sends it, decoded; None for a contract or event not known here."""
        name, interface = self._known.get(str(log["address"]).lower(), ("", None))
        if interface is None:
            return None
        decoded = interface.decode_log(log["topics"], bytes.fromhex(log["data"][2:]))
        if decoded is None:
            return None
        return Event(
            contract=name,
            name=decoded[0],
            args=decoded[1],
            address=checksum_address(log["address"]),
            block=int(log["blockNumber"], 16),
            log_index=int(log["logIndex"], 16),
        )

    # Time and money on a local chain

    def now(self) -> int:
        """The latest block's time, unix seconds."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def block_number(self) -> int:
        """The latest block's number."""
        return int(self.rpc("eth_blockNumber"), 16)

    def set_time(self, timestamp: int) -> None:
        """Move a local chain to `timestamp` (unix seconds) with an empty block.

        Calls and transactions then see exactly this time until it is moved again. Moving to the
        present time does nothing; raises BadUse for the past or a chain that is not local.
        """
        self._require_local("time")
        now = self.now()
        if timestamp < now:
            raise BadUse(f"chain time {now} cannot go back to {timestamp}")
        if timestamp > now:
            self.rpc("evm_setNextBlockTimestamp", timestamp)
            self.rpc("evm_mine")

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks at the present time on a local chain."""
        self._require_local("blocks")
        self.rpc("anvil_mine", hex(blocks), "0x0")

    def fund(self, address: str, wei: int = 10**18) -> None:
        """Set an account's balance for fees on a local chain."""
        self._require_local("balances")
        self.rpc("anvil_setBalance", address, hex(wei))

    @cached_property
    def accounts(self) -> tuple[LocalAccount, ...]:
        """The ten funded accounts of a local chain; empty on others."""
        return local_accounts() if self.is_local else ()

    def _require_local(self, what: str) -> None:
        if not self.is_local:
            raise BadUse(f"{what} can be set on a local chain only, not on {self.url}")

    # Inside

    def _request(self, method: str, params: list[Any]) -> dict[str, Any]:
        import requests

        if self._web3 is None:
            raise CheckFailed(f"the connection to {self.url} is closed")
        try:
            # Below web3's formatting middleware: what is asked for here needs none of it.
            return dict(self._web3.provider.make_request(method, params))
        except (requests.RequestException, OSError) as error:
            raise CheckFailed(
                f"node unreachable at {self.url} ({type(error).__name__}); is it running?"
            ) from error

    def _send_signed(
        self,
        account: LocalAccount,
        to: str | None,
        data: bytes,
        value: int,
        gas: int | None,
        what: str,
    ) -> Mapping[str, Any]:
        from eth_account import Account as Signer

        for retry in (False, True):
            nonce = self._nonces.get(account.address)
            if nonce is None:
                count = self.rpc("eth_getTransactionCount", account.address, "latest")
                nonce = int(count, 16)
            fields: dict[str, Any] = {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": nonce,
                "value": value,
                "data": data,
                **self._fees(),
            }
            if to is not None:
                fields["to"] = checksum_address(to)
            fields["gas"] = gas or self._gas_for(account.address, fields)
            signed = Signer.sign_transaction(fields, account.key).raw_transaction
            answer = self._submit("0x" + bytes(signed).hex(), what)
            if "error" not in answer:
                self._nonces[account.address] = nonce + 1
                return dict(answer["result"])
            # Somebody else may use the same key: count anew, once.
            self._nonces.pop(account.address, None)
            message = str(answer["error"].get("message", answer["error"]))
            if retry or "nonce" not in message.lower():
                break
        raise CheckFailed(f"the node at {self.url} does not take {what}: {message}")

    def _submit(self, signed: str, what: str) -> dict[str, Any]:
        """Send a signed transaction; the answer's result is its receipt."""
        if self.is_local:  # EIP-7966: one request for sending and receipt
            return self._request("eth_sendRawTransactionSync", [signed])
        answer = self._request("eth_sendRawTransaction", [signed])
        if "error" in answer:
            return answer
        deadline = time.monotonic() + _RECEIPT_PATIENCE
        while time.monotonic() < deadline:
            if (receipt := self.rpc("eth_getTransactionReceipt", answer["result"])) is not None:
                return {"result": receipt}
            time.sleep(1.0)
        raise CheckFailed(f"{what} ({answer['result']}) was not mined within 5 minutes")

    def _fees(self) -> dict[str, int]:
        if self.is_local:
            return {"maxFeePerGas": _LOCAL_MAX_FEE, "maxPriorityFeePerGas": 0}
        tip = int(self.rpc("eth_maxPriorityFeePerGas"), 16)
        base = int(self.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}

    def _gas_for(self, sender: str, fields: Mapping[str, Any]) -> int:
        """Locally the most that is allowed (nothing is estimated); elsewhere an estimate."""
        if self.is_local:
            return TRANSACTION_GAS_LIMIT
        request = {"from": sender, "data": "0x" + bytes(fields["data"]).hex()}
        if "to" in fields:
            request["to"] = fields["to"]
        answer = self._request("eth_estimateGas", [request])
        if (error := answer.get("error")) is not None:
            raise ContractReverted("the transaction", _reason_of_error(error))
        return min(int(answer["result"], 16) * 5 // 4, TRANSACTION_GAS_LIMIT)

    def _send_through_ape(
        self,
        account: ApeAccount,
        to: str | None,
        data: bytes,
        value: int,
        gas: int | None,
        what: str,
    ) -> Mapping[str, Any]:
        from ape.exceptions import ApeException, ContractLogicError

        fields: dict[str, Any] = {"data": data, "value": value}
        if to is not None:
            fields["receiver"] = checksum_address(to)
        if gas is not None:
            fields["gas_limit"] = gas
        try:
            ecosystem = self._provider.network.ecosystem
            with redirect_stdout(sys.stderr):  # Ape prints traces; stdout belongs to the command
                receipt = account.account.call(ecosystem.create_transaction(**fields))
        except ContractLogicError as error:
            raise ContractReverted(what, str(error.revert_message or error)) from error
        except ApeException as error:
            raise CheckFailed(f"{what} was not sent: {error}") from error
        return dict(self.rpc("eth_getTransactionReceipt", receipt.txn_hash))

    def _receipt(self, raw: Mapping[str, Any]) -> Receipt:
        created = raw.get("contractAddress")
        return Receipt(
            tx=raw["transactionHash"],
            block=int(raw["blockNumber"], 16),
            gas_used=int(raw["gasUsed"], 16),
            logs=tuple(raw["logs"]),
            contract_address=checksum_address(created) if created else None,
            events=tuple(event for log in raw["logs"] if (event := self.decode_log(log))),
        )

    def _why(self, receipt: Receipt, gas: int | None) -> str:
        """Why a mined transaction failed: replayed by the node in the state it met."""
        answer = self._request("debug_traceTransaction", [receipt.tx, {"tracer": "callTracer"}])
        trace = answer.get("result")
        if not isinstance(trace, dict):
            return f"no reason known, see transaction {receipt.tx}"
        if "gas" in str(trace.get("error", "")).lower().replace("outofgas", "gas"):
            limit = gas or TRANSACTION_GAS_LIMIT
            return f"out of gas: {receipt.gas_used:,} of {limit:,} used"
        return revert_reason(bytes.fromhex(str(trace.get("output") or "0x")[2:]))


@lru_cache(maxsize=1)
def local_accounts() -> tuple[LocalAccount, ...]:
    """The accounts of the publicly known development words, in order."""
    from eth_account.hdaccount import ETHEREUM_DEFAULT_PATH, key_from_seed, seed_from_mnemonic

    seed = seed_from_mnemonic(MNEMONIC, passphrase="")
    stem = ETHEREUM_DEFAULT_PATH.rpartition("/")[0]
    return tuple(LocalAccount.from_key(key_from_seed(seed, f"{stem}/{i}")) for i in range(10))


def _open(
    choice: str, settings: Mapping[str, Any] | None, url: str
) -> tuple[ProviderAPI, ExitStack]:
    """A network by Ape's name for it; with settings the local node that they name."""
    prepare_ape(home() / "ape" if settings is not None else None)
    import ape
    from ape.exceptions import ApeException, NetworkError, ProviderError

    stack = ExitStack()
    try:
        # The checkout's ape-config.yaml holds, wherever the command was started. What `ape compile`
        # may have left there is not wanted: reading it takes seconds.
        nothing = home() / "ape" / "no-project" / "__local__.json"
        networks = ape.Project(checkout_root(), manifest_path=nothing).network_manager
        if settings is None:
            context = networks.parse_network_choice(choice)
        else:
            context = _foundry(networks, settings)
        provider = stack.enter_context(context)
    except ProviderError as error:
        raise CheckFailed(f"node unreachable at {url}; is it running?") from error
    except NetworkError as error:
        raise BadUse(f"{choice!r} is not a network Ape knows: {error}") from error
    except (ApeException, OSError, ValueError) as error:
        raise CheckFailed(f"cannot open {url}: {error}") from error
    return provider, stack


def _foundry(networks: NetworkManager, settings: Mapping[str, Any]) -> ProviderContextManager:
    """Foundry's provider, made directly: to find it by name Ape imports those of all plugins, and
    eth-tester's with its tables of pairings takes longer than all the rest."""
    from ape_foundry import FoundryProvider

    network = networks.ethereum.local
    return network.use_provider(
        FoundryProvider(name="foundry", network=network, provider_settings=dict(settings))
    )


def _ape_account(alias: str) -> ApeAccount:
    import ape

    try:
        if alias.startswith("TEST::"):
            account: AccountAPI = ape.accounts.test_accounts[int(alias.removeprefix("TEST::"))]
        else:
            account = ape.accounts.load(alias)
    except (KeyError, IndexError, ValueError) as error:
        raise BadUse(f"Ape has no account {alias!r}; see `ape accounts list`") from error
    return ApeAccount(address=str(account.address), account=account)


def _reason_of_error(error: Any) -> str:
    """The reason inside a JSON-RPC error."""
    if not isinstance(error, dict):
        return str(error)
    data = error.get("data")
    if isinstance(data, dict):  # some nodes nest it
        data = data.get("data")
    if isinstance(data, str) and data.startswith("0x") and len(data) > 2:
        return revert_reason(bytes.fromhex(data[2:]))
    message = str(error.get("message", error))
    return "reverted without a reason" if message == "execution reverted" else message
