# SPDX-License-Identifier: Apache-2.0
"""`/local-wallet`: JSON-RPC for the demonstration people's wallet in the page.

There only on a local chain, only for this machine, only from our own pages. Their keys, which
anybody can derive, stay here all the same. What it shows before signing comes from
`services/signing_words.py`; the window itself is the wallet's (`wallet/assets/demo.js`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dao.chain import LocalAccount
from dao.demo_people import owner_account
from dao.eip712 import address_bytes, checksum_address, sign_digest
from dao.errors import CheckFailed
from dao.json_input import loads
from dao.node import Node
from dashboard import i18n, identity
from dashboard.routes._guard import Refused, read_json
from dashboard.routes._language import language_of
from dashboard.services.sign_in import personal_digest
from dashboard.services.signing_words import Asked, of_message, of_transaction, of_typed_data
from dashboard.settings import Settings, current_run

MAX_BODY = 65_536
FORWARDED = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_estimateGas",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "net_version",
    }
)
"""What is asked of the node as it is: questions only."""

_OWN_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_OWN_ADDRESSES = {"127.0.0.1", "::1"}
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")


class _Failed(Exception):
    """A JSON-RPC error: its code (EIP-1193, EIP-1474) and words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def routes(settings: Settings) -> list[BaseRoute]:
    """The path, on a local chain; none elsewhere."""
    if not settings.local or settings.rpc is None:
        return []

    async def handle(request: Request) -> Response:
        try:
            _check_near(request)
            body = await read_json(request, MAX_BODY)
        except Refused as refused:
            return refused.response()
        method = body.get("method") if isinstance(body, dict) else None
        params = body.get("params") if isinstance(body, dict) else None
        if not isinstance(method, str) or not isinstance(params, list):
            return _reply(error=_Failed(-32600, "not a JSON-RPC request"))
        locale = language_of(request)
        try:
            return _reply(await run_in_threadpool(_answer, settings, method, params, locale))
        except _Failed as failed:
            return _reply(error=failed)
        except CheckFailed as failed:
            return _reply(error=_Failed(-32000, str(failed)))

    return [Route("/local-wallet", handle, methods=["POST"])]


def _check_near(request: Request) -> None:
    """Refused unless browser and server are the same machine, and no proxy stands between."""
    host = request.headers.get("host", "").lower().rpartition(":")
    name = host[0] if host[1] and not host[2].endswith("]") else "".join(host)
    client = request.client.host if request.client else ""
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    if name not in _OWN_NAMES or client not in _OWN_ADDRESSES or forwarded:
        raise Refused(403, "Host", "demonstration people stay on this machine", "localhost")


def _answer(settings: Settings, method: str, params: list[Any], locale: i18n.Locale) -> Any:
    if method in _METHODS:
        with i18n.speaking(locale):
            return _METHODS[method](settings, params)
    if method not in FORWARDED:
        raise _Failed(4200, f"this wallet does not know {method}")
    return _node(settings).ask(method, *params)


def _node(settings: Settings) -> Node:
    assert settings.rpc is not None
    return Node(settings.rpc)


def _person(settings: Settings, address: Any) -> tuple[int, LocalAccount]:
    """The metering point and the keys of a demonstration person."""
    run = current_run()
    try:
        wanted = checksum_address(address)
    except (ValueError, TypeError):
        raise _Failed(-32602, "not an address") from None
    for meter, owner in identity.seeded(settings, identity.zone()).items():
        if owner == wanted and run is not None:
            return meter, owner_account(run.seed, meter)
    raise _Failed(4100, "this address is no demonstration person's")


def _list(settings: Settings, params: list[Any]) -> list[dict[str, str]]:
    those = identity.seeded(settings, identity.zone())
    return [{"address": those[meter], "name": identity.home_name(meter)} for meter in sorted(those)]


def _chain_id(settings: Settings, params: list[Any]) -> str:
    return hex(settings.chain_id or 0)


def _message(params: list[Any]) -> tuple[Any, bytes]:
    if len(params) < 2 or not isinstance(params[0], str) or not _HEX.fullmatch(params[0]):
        raise _Failed(-32602, "expected [0x text, address]")
    return params[1], bytes.fromhex(params[0][2:])


def _personal_sign(settings: Settings, params: list[Any]) -> str:
    address, raw = _message(params)
    _meter, account = _person(settings, address)
    return "0x" + sign_digest(account.key, personal_digest(_utf8(raw))).hex()


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # What cannot be shown is not signed.
        raise _Failed(-32602, "not a text in UTF-8") from None


def _typed_data(settings: Settings, params: list[Any]) -> tuple[Any, dict[str, Any]]:
    if len(params) < 2:
        raise _Failed(-32602, "expected [address, typed data]")
    try:
        document = loads(params[1]) if isinstance(params[1], str) else params[1]
        chain = document["domain"].get("chainId")
        wrong = chain is not None and int(str(chain), 0) != settings.chain_id
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Failed(-32602, "not typed data (EIP-712)") from None
    if wrong:
        raise _Failed(4901, "the typed data is for another chain")
    return params[0], document


def _sign_typed_data(settings: Settings, params: list[Any]) -> str:
    from eth_account import Account as Signer

    address, document = _typed_data(settings, params)
    _meter, account = _person(settings, address)
    try:
        signed = Signer.sign_typed_data(account.key, full_message=document)
    except Exception as error:  # the encoder raises what its parts raise
        raise _Failed(-32602, f"not typed data (EIP-712): {str(error)[:200]}") from None
    return "0x" + bytes(signed.signature).hex()


def _transaction(params: list[Any]) -> dict[str, Any]:
    """The fields of a transaction that a page may set, as numbers and bytes."""
    wanted = params[0] if params and isinstance(params[0], dict) else {}
    try:
        return {
            "from": checksum_address(wanted["from"]),
            "to": checksum_address(wanted["to"]),
            "value": int(str(wanted.get("value") or "0x0"), 16),
            "data": bytes.fromhex(str(wanted.get("data") or "0x")[2:]),
        }
    except (KeyError, ValueError, TypeError):
        raise _Failed(-32602, "expected [{from, to, value, data}]") from None


def _send_transaction(settings: Settings, params: list[Any]) -> str:
    from eth_account import Account as Signer

    fields = _transaction(params)
    _meter, account = _person(settings, fields.pop("from"))
    node = _node(settings)
    call = {
        "from": account.address,
        "to": fields["to"],
        "value": hex(fields["value"]),
        "data": "0x" + fields["data"].hex(),
    }
    price = int(node.ask("eth_gasPrice"), 16)
    signed = Signer.sign_transaction(
        {
            **fields,
            "type": 2,
            "chainId": settings.chain_id,
            "nonce": int(node.ask("eth_getTransactionCount", account.address, "pending"), 16),
            "gas": int(node.ask("eth_estimateGas", call), 16) * 5 // 4,
            "maxFeePerGas": 2 * price,
            "maxPriorityFeePerGas": 0,
        },
        account.key,
    )
    return str(node.ask("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))


def _describe(settings: Settings, params: list[Any]) -> dict[str, Any]:
    """What the wallet's window shows of a request, [method, params]: whom and what it asks."""
    if len(params) != 2 or not isinstance(params[1], list):
        raise _Failed(-32602, "expected [method, params]")
    method, inner = params
    asked: Asked
    if method == "personal_sign":
        address, raw = _message(inner)
        asked = of_message(_utf8(raw))
    elif method == "eth_signTypedData_v4":
        address, document = _typed_data(settings, inner)
        asked = of_typed_data(document)
    elif method == "eth_sendTransaction":
        fields = _transaction(inner)
        address = fields["from"]
        names = {address_bytes(a): name for name, a in (settings.deployment or {}).items()}
        asked = of_transaction(fields, names.get(address_bytes(fields["to"])))
    else:
        raise _Failed(4200, f"this wallet does not know {str(method)[:80]}")
    meter, _keys = _person(settings, address)
    return {
        "name": identity.home_name(meter),
        "title": asked.title,
        "facts": [list(fact) for fact in asked.facts],
        "everything": asked.everything,
    }


_METHODS: dict[str, Callable[[Settings, list[Any]], Any]] = {
    "demo_people": _list,
    "demo_describe": _describe,
    "eth_chainId": _chain_id,
    "personal_sign": _personal_sign,
    "eth_signTypedData_v4": _sign_typed_data,
    "eth_sendTransaction": _send_transaction,
}


def _reply(result: Any = None, error: _Failed | None = None) -> JSONResponse:
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
    if error is None:
        body["result"] = result
    else:
        body["error"] = {"code": error.code, "message": str(error)[:300]}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
