# SPDX-License-Identifier: Apache-2.0
"""A person with a wallet, for browser tests: it announces itself in the page like any extension,
waits for the person's word, and has a real node sign and send.

Its script hands each request to this process; what the person has not yet decided stays in
`pending`, whether the page that asked is still there or not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import playwright.sync_api as playwright
import requests

LOCAL = 31337
# What a wallet does only when the person says so.
ASKED = {
    "eth_requestAccounts",
    "personal_sign",
    "eth_signTypedData_v4",
    "eth_sendTransaction",
    "wallet_switchEthereumChain",
    "wallet_addEthereumChain",
}

SCRIPT = """(([info, legacy]) => {
  let number = 0;
  const listeners = {};
  const provider = {
    on: (name, callback) => (listeners[name] ??= new Set()).add(callback),
    removeListener: (name, callback) => listeners[name]?.delete(callback),
    emit: (name, ...values) => [...(listeners[name] ?? [])].forEach((one) => one(...values)),
    count: (name) => listeners[name]?.size ?? 0,
    async request({ method, params }) {
      const id = `${performance.timeOrigin} ${(number += 1)}`;
      const decided = new Promise((resolve) => ((window.decided ??= {})[id] = resolve));
      const reply = (await window.askWallet(info.uuid, id, method, params)) ?? (await decided);
      if (reply.error) throw reply.error;
      if (reply.events) setTimeout(() => reply.events.forEach((one) => provider.emit(...one)), 0);
      return reply.result;
    },
  };
  (window.wallets ??= {})[info.uuid] = provider;
  if (legacy) { window.ethereum = provider; return; }
  const announce = () => window.dispatchEvent(new CustomEvent("eip6963:announceProvider", {
    detail: Object.freeze({ info: Object.freeze(info), provider }),
  }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})"""

ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>"
    "<circle cx='4.5' cy='4.5' r='4' fill='%23c50'/></svg>"
)


class Refused(Exception):
    """What the wallet answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Asked:
    """A request that waits for the person."""

    method: str
    params: list[Any]
    id: str


def _refusal(refused: Refused) -> dict[str, Any]:
    return {"error": {"code": refused.code, "message": str(refused)}}


# By page, the wallets that answer there.
_installed: WeakKeyDictionary[playwright.Page, dict[str, Wallet]] = WeakKeyDictionary()


@dataclass
class Wallet:
    """One wallet. `chains` are the chain ids it knows; `asked` counts its windows by method;
    `junk` is what it answers instead of the truth; what is `silent` it never
    answers."""

    rpc: str
    accounts: list[str]
    name: str = "Testing wallet"
    rdns: str = "test.wallet"
    icon: str = ICON
    legacy: bool = False
    chain: int = LOCAL
    chains: set[int] = field(default_factory=lambda: {1, LOCAL})
    trusts: bool = False
    one_at_a_time: bool = False
    junk: dict[str, Any] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    pending: list[Asked] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def uuid(self) -> str:
        return f"{self.rdns}-{id(self)}"

    def install(self, page: playwright.Page) -> Wallet:
        info = {"uuid": self.uuid, "name": self.name, "icon": self.icon, "rdns": self.rdns}
        page.add_init_script(f"{SCRIPT}({json.dumps([info, self.legacy])})")
        installed = _installed.setdefault(page, {})
        if not installed:
            page.expose_function("askWallet", lambda uuid, *asked: installed[uuid].take(*asked))
        installed[self.uuid] = self
        return self

    def take(self, id: str, method: str, params: list[Any] | None = None) -> dict[str, Any] | None:
        """A request from the page: its answer, or None while the person must decide."""
        asked = Asked(method, params or [], id)
        if method in self.silent:
            return None
        if method not in ASKED or (method == "eth_requestAccounts" and self.trusts):
            return self._reply(asked)
        if self.pending and self.one_at_a_time:
            return _refusal(Refused(-32002, "already pending"))
        self.asked.append(method)
        self.pending.append(asked)
        return None

    def wait(self, page: playwright.Page, method: str, number: int = 1) -> None:
        """Until the wallet shows `number` requests of `method`."""
        for _ in range(200):
            if sum(one.method == method for one in self.pending) >= number:
                return
            page.wait_for_timeout(50)
        raise AssertionError(f"the wallet was not asked for {method}; it has {self.pending}")

    def approve(self, page: playwright.Page, method: str) -> None:
        self.wait(page, method)
        asked = self._next(method)
        self._tell(page, asked, self._reply(asked))

    def reject(self, page: playwright.Page, method: str) -> None:
        self.wait(page, method)
        self._tell(page, self._next(method), _refusal(Refused(4001, "User rejected the request.")))

    def _next(self, method: str) -> Asked:
        one = next(one for one in self.pending if one.method == method)
        self.pending.remove(one)
        return one

    @staticmethod
    def _tell(page: playwright.Page, asked: Asked, reply: dict[str, Any]) -> None:
        # A page that is gone hears nothing; what the wallet did stays done.
        page.evaluate("([id, reply]) => window.decided?.[id]?.(reply)", [asked.id, reply])

    def emit(self, page: playwright.Page, name: str, value: Any) -> None:
        page.evaluate(
            "([id, name, value]) => window.wallets[id].emit(name, value)", [self.uuid, name, value]
        )

    def _reply(self, asked: Asked) -> dict[str, Any]:
        events: list[list[Any]] = []
        try:
            return {"result": self._result(asked.method, asked.params, events), "events": events}
        except Refused as refused:
            return _refusal(refused)

    def _result(self, method: str, params: list[Any], events: list[list[Any]]) -> Any:
        if method in self.junk:
            if isinstance(self.junk[method], Refused):
                raise self.junk[method]
            return self.junk[method]
        if method == "eth_requestAccounts":
            self.trusts = True
            return self.accounts
        if method == "eth_accounts":
            return self.accounts if self.trusts else []
        if method == "eth_chainId":
            return hex(self.chain)
        if method in ("wallet_switchEthereumChain", "wallet_addEthereumChain"):
            wanted = int(params[0]["chainId"], 16)
            if method == "wallet_addEthereumChain":
                assert params[0]["rpcUrls"] == [self.rpc]
                self.chains.add(wanted)
                return None
            if wanted not in self.chains:
                raise Refused(4902, "Unrecognized chain ID. Try adding the chain first.")
            self.chain = wanted
            events.append(["chainChanged", hex(wanted)])
            return None
        return self._node(method, params)

    def _node(self, method: str, params: list[Any]) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = requests.post(self.rpc, json=call, timeout=30).json()
        if "error" in reply:
            raise Refused(reply["error"].get("code", -32603), reply["error"].get("message", ""))
        return reply["result"]
