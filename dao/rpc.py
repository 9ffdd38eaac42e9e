# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC to a node over HTTP, on one kept connection: no Ape, no compiler, no account.

What is asked is not known here: `node.py` looks things up, `index.py` follows events. Whatever
sends a transaction goes through `chain.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dao.errors import CheckFailed
from dao.json_input import loads

BATCH = 100
"""Calls in one JSON-RPC batch; public nodes refuse much larger ones."""
PATIENCE_S = 30.0
_PIECE = 1 << 16


class Refused(CheckFailed):
    """The node answered with an error, such as a call that reverted."""


class Rpc:
    """A node at a URL. CheckFailed where it does not answer, or what answers is no node.

    shown: the URL as messages name it, where it holds what they should not. patience_s: how long
    it may be silent. most_bytes: an answer that is longer is another service's.
    """

    def __init__(
        self,
        url: str,
        *,
        shown: str | None = None,
        patience_s: float = PATIENCE_S,
        most_bytes: int | None = None,
    ) -> None:
        import requests

        self.shown = url if shown is None else shown
        self._url = url
        self._patience_s = patience_s
        self._most_bytes = most_bytes
        self._session = requests.Session()

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def call(self, method: str, *params: Any) -> Any:
        """One call. Refused where the node answers with an error."""
        answer = self._post({"jsonrpc": "2.0", "id": 0, "method": method, "params": list(params)})
        return self._result(method, answer)

    def batch(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        """Several calls, `BATCH` to a request; results in order. Refused on any error."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH):
            part = calls[start : start + BATCH]
            answers = self._post(
                [
                    {"jsonrpc": "2.0", "id": i, "method": method, "params": params}
                    for i, (method, params) in enumerate(part)
                ]
            )
            try:
                by_id = {answer["id"]: answer for answer in answers}
                results += [self._result(part[i][0], by_id[i]) for i in range(len(part))]
            except (KeyError, TypeError):
                raise CheckFailed(f"the node at {self.shown} does not answer batches") from None
        return results

    def no_node(self, why: str = "") -> CheckFailed:
        """The error for an answer that no node gives."""
        return CheckFailed(f"what answers at {self.shown} is not an Ethereum node{why}")

    def _result(self, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise self.no_node()
        if answer.get("error") is not None:
            error = answer["error"]
            reason = error.get("message", error) if isinstance(error, dict) else error
            raise Refused(f"the node at {self.shown} refused {method}: {str(reason)[:200]}")
        return answer.get("result")

    def _post(self, body: Any) -> Any:
        import requests

        try:
            with self._session.post(
                self._url, json=body, timeout=self._patience_s, stream=True
            ) as response:
                status, content = response.status_code, bytearray()
                for piece in response.iter_content(_PIECE):
                    content += piece
                    if self._most_bytes is not None and len(content) > self._most_bytes:
                        raise self.no_node()
        except requests.RequestException as error:
            reason = type(error).__name__
            raise CheckFailed(
                f"node unreachable at {self.shown} ({reason}); is it running?"
            ) from error
        try:
            return loads(content)
        except ValueError:
            raise self.no_node(f" (HTTP {status})") from None
