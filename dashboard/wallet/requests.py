# SPDX-License-Identifier: Apache-2.0
"""What one can ask a wallet for, checked and spelt as the browser's side takes it.

Each request has an `id`; left empty, it follows from the content and from how many requests of
this button came to an end. Nothing here knows Streamlit.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")
# The largest integer that every JSON reader, wallets among them, keeps exact.
_EXACT = 2**53 - 1
_WORD = 2**256


@dataclass(frozen=True)
class Chain:
    """A chain and what a wallet that does not know it must be told.

    `id` is the chain id; `rpc` the node's URL for wallets, empty if wallets are expected to know
    the chain; `coin` the gas token's symbol (18 decimals).
    """

    id: int
    name: str = ""
    rpc: str = ""
    coin: str = "ETH"
    explorer: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.id <= _EXACT:
            raise ValueError(f"chain id {self.id} is out of range")
        for url in (self.rpc, self.explorer):
            if url and not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no http(s) URL")

    def wire(self) -> dict[str, Any]:
        """As wallet_addEthereumChain takes it (EIP-3085); only the id when that is all."""
        wire: dict[str, Any] = {"chainId": hex(self.id)}
        if self.rpc:
            wire["chainName"] = self.name or f"Chain {self.id}"
            wire["rpcUrls"] = [self.rpc]
            wire["nativeCurrency"] = {"name": self.coin, "symbol": self.coin, "decimals": 18}
            if self.explorer:
                wire["blockExplorerUrls"] = [self.explorer]
        return wire


@dataclass(frozen=True)
class Deliver:
    """Where the browser itself brings a signature: POST of `body` as JSON to a path of this
    server. A text in `body` that is exactly "$signature" becomes the signature (0x r || s || v).

    Whoever answers there must take the same delivery twice: it is repeated when the network fails.
    """

    url: str
    body: dict[str, Any]

    def __post_init__(self) -> None:
        _check_path(self.url)

    def wire(self) -> dict[str, str]:
        # As text, so that large numbers pass the browser unharmed.
        return {"url": self.url, "body": json.dumps(self.body)}


@dataclass(frozen=True)
class Connect:
    """The wallet's account. Answers again when the person changes it, or when the page opens and
    the wallet still trusts it."""

    id: str = ""

    def wire(self) -> dict[str, Any]:
        return {"kind": "connect"}


@dataclass(frozen=True)
class SignTypedData:
    """eth_signTypedData_v4 of an EIP-712 document by `account`."""

    document: dict[str, Any]
    account: str
    deliver: Deliver | None = None
    id: str = ""

    def __post_init__(self) -> None:
        _check_account(self.account)
        for part in ("types", "primaryType", "domain", "message"):
            if part not in self.document:
                raise ValueError(f"the typed data lacks {part!r}")

    @property
    def chain_id(self) -> int | None:
        """The chain that the document is bound to, if any."""
        chain = self.document["domain"].get("chainId")
        return None if chain is None else int(str(chain), 0)

    def wire(self) -> dict[str, Any]:
        return {
            "kind": "typed-data",
            "document": json.dumps(_exact(self.document)),
            "account": self.account,
            "deliver": self.deliver.wire() if self.deliver else None,
        }


@dataclass(frozen=True)
class SignMessage:
    """personal_sign of a text by `account`."""

    text: str
    account: str
    deliver: Deliver | None = None
    id: str = ""

    def __post_init__(self) -> None:
        _check_account(self.account)

    def wire(self) -> dict[str, Any]:
        return {
            "kind": "message",
            "text": self.text,
            "account": self.account,
            "deliver": self.deliver.wire() if self.deliver else None,
        }


@dataclass(frozen=True)
class SignIn:
    """Sign-In with Ethereum: the browser asks `challenge` for the text that its account shall
    sign (POST {"account"} -> {"message"}) and brings {"message", "signature"} to `session`.

    `account` None takes the one that the person connects; `wallet` the rdns of the only wallet
    that is meant, when there is no choice to offer.
    """

    challenge: str
    session: str
    account: str | None = None
    wallet: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        _check_path(self.challenge)
        _check_path(self.session)
        if self.account is not None:
            _check_account(self.account)

    def wire(self) -> dict[str, Any]:
        body = '{"message": "$message", "signature": "$signature"}'
        return {
            "kind": "sign-in",
            "challenge": self.challenge,
            "account": self.account,
            "wallet": self.wallet,
            "deliver": {"url": self.session, "body": body},
        }


@dataclass(frozen=True)
class SendTransaction:
    """eth_sendTransaction by `account`. `data` is 0x hex, `value` in wei."""

    to: str
    data: str = "0x"
    value: int = 0
    account: str = field(kw_only=True)
    chain: int | Chain = field(kw_only=True)
    id: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_account(self.account)
        _check_account(self.to)
        if not _HEX.fullmatch(self.data):
            raise ValueError("data must be 0x and whole bytes in hex")
        if not 0 <= self.value < _WORD:
            raise ValueError(f"a value of {self.value} wei is out of range")

    @property
    def chain_id(self) -> int:
        """The chain to send on."""
        return self.chain.id if isinstance(self.chain, Chain) else self.chain

    def wire(self) -> dict[str, Any]:
        transaction = {
            "from": self.account,
            "to": self.to,
            "data": self.data,
            "value": hex(self.value),
            "chainId": hex(self.chain_id),
        }
        return {"kind": "transaction", "transaction": transaction, "account": self.account}


Request = Connect | SignTypedData | SignMessage | SignIn | SendTransaction


def content_digest(request: Request) -> str:
    """16 hex digits that differ where two requests ask for something different."""
    wire = json.dumps(request.wire(), sort_keys=True)
    return hashlib.sha256(wire.encode()).hexdigest()[:16]


def chain_wanted(request: Request, known: Chain | None) -> Chain | None:
    """The chain that the wallet must be on for a request; `known` says more about it."""
    if isinstance(request, SendTransaction) and isinstance(request.chain, Chain):
        return request.chain
    if isinstance(request, (SignTypedData, SendTransaction)):
        number = request.chain_id
        if number is None:
            return None
        return known if known is not None and known.id == number else Chain(number)
    return known if isinstance(request, Connect) else None


def _exact(value: Any) -> Any:
    """`value` with integers that JavaScript would round written as decimal text."""
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return "0x" + value.hex()
    return value


def _check_account(account: str) -> None:
    if not _ADDRESS.fullmatch(account):
        raise ValueError(f"{account!r} is no address")


def _check_path(url: str) -> None:
    # "//host" and "/\host" are other hosts to a browser.
    if not url.startswith("/") or url.startswith("//") or "\\" in url:
        raise ValueError(f"{url!r} is no path of this server")
