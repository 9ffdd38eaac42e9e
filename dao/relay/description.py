# SPDX-License-Identifier: Apache-2.0
"""The API's description: JSON schemas of what is submitted, and a page that lists the operations.

FastAPI derives the rest from the answers. The page loads nothing from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from html import escape
from typing import Any

from dao.market.orders import MAX_SESSION_SLOTS, MAX_WH
from dao.market.session import WALLET_SIGNATURE_BYTES
from dao.relay.requests import Rule
from dao.relay.submitted import FIELDS, SIDES, WHOLE

Schema = dict[str, Any]


def _whole(lowest: int, highest: int) -> Schema:
    return {"type": "integer", "minimum": lowest, "maximum": highest}


def _object(title: str, properties: Schema, *, optional: Collection[str] = ()) -> Schema:
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_SIGNATURE = {"type": "string", "pattern": f"^0x([0-9a-fA-F]{{2}}){{1,{WALLET_SIGNATURE_BYTES}}}$"}
_WH_PER_SLOT: Schema = {
    "type": "array",
    "items": _whole(0, MAX_WH),
    "minItems": 1,
    "maxItems": MAX_SESSION_SLOTS,
}
_FIELDS: Schema = {
    **{name: _whole(*bounds) for name, bounds in WHOLE.items()},
    "side": {"type": "string", "enum": list(SIDES)},
    "wh": {"anyOf": [_whole(1, MAX_WH), _WH_PER_SLOT]},
}
_ORDER: Schema = {name: _FIELDS[name] for name in FIELDS}

UNSIGNED_ORDER = _object("UnsignedOrder", _ORDER, optional=("mandate", "nonce", "expiry"))
SIGNED_ORDER = _object("SignedOrder", {**_ORDER, "signature": _SIGNATURE}, optional=("mandate",))
RECEIPT = _object(
    "DeliveryReceipt",
    {
        "meter": _FIELDS["account"],
        "first_slot": _FIELDS["first_slot"],
        "exports": _WH_PER_SLOT,
        "signature": _SIGNATURE,
    },
)


def one_or_many(most: int) -> Schema:
    """One signed order, or an object with up to `most` of them."""
    orders = {"type": "array", "items": SIGNED_ORDER, "minItems": 1, "maxItems": most}
    return {"anyOf": [SIGNED_ORDER, _object("Orders", {"orders": orders})]}


def unsigned_request(rule: Rule) -> Schema:
    """A request's fields, of which the relay can fill in some."""
    fields = rule.fields.items()
    optional = [name for name, one in fields if one.filled or one.is_optional]
    return _object(
        f"Unsigned {rule.kind}", {name: one.schema for name, one in fields}, optional=optional
    )


def signed_request(rule: Rule) -> Schema:
    """A request's fields and its signature."""
    fields = {name: one.schema for name, one in rule.fields.items()}
    optional = [name for name, one in rule.fields.items() if one.is_optional]
    return _object(f"Signed {rule.kind}", {**fields, "signature": _SIGNATURE}, optional=optional)


def body(schema: Schema) -> Schema:
    """A request body, as an operation of an OpenAPI document has it."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.75rem;overflow-x:auto}code{font-size:.9em}"
    "h2{margin-top:2.5rem;font-size:1.1rem}"
)
_UNITS = (
    "Energy is in Wh, prices in micro euro per Wh, money in micro euro, times in unix seconds. "
    "A slot is unix seconds divided by 900."
)


def page(document: Schema) -> str:
    """The operations of an OpenAPI document as an HTML page."""
    title = escape(document["info"]["title"])
    parts = [
        f"<h1>{title}</h1><p>{escape(document['info']['summary'])}</p><p>{_UNITS}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _operation(name: str, operation: Schema) -> list[str]:
    parts = [f"<h2><code>{escape(name)}</code></h2><p>{escape(operation['summary'])}</p>"]
    if text := operation.get("description"):
        parts.append(f"<p>{escape(text)}</p>")
    for one in operation.get("parameters", ()):
        schema = escape(json.dumps(one["schema"]))
        parts.append(f"<p><code>{escape(one['name'])}</code>: <code>{schema}</code></p>")
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        text = escape(json.dumps(schema, indent=2))
        parts.append(f"<details><summary>Body</summary><pre>{text}</pre></details>")
    return parts
