# SPDX-License-Identifier: Apache-2.0
"""What every command shares: how it ends, reads a file, and opens a chain."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from dao.errors import BadUse, CheckFailed, GridCommonsError

if TYPE_CHECKING:
    from dao.chain import Account, Chain

P = ParamSpec("P")
R = TypeVar("R")

_CHECKOUT = str(Path(__file__).resolve().parents[1])

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

LOCAL_NODE, LOCAL_RELAY = (f"http://127.0.0.1:{port}" for port in (8545, 8550))

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
deployment_option = click.option(
    "--deployment",
    "deployment_file",
    type=click.Path(path_type=Path),
    help="Where the addresses are written down.  [default: in the state folder]",
)

CHECK_MARKS = {"passed": "ok", "failed": "FAILED", "not checked": "not checked"}
"""How the state of a check is shown to people."""


def handles_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a command's function: known errors end it with one line and their exit code.

    Any GridCommonsError becomes `Error: ...` on stderr with exit code 1 or 2, Ctrl-C exit code
    130. Place it right above the function, below click's decorators. Other exceptions pass: they
    are defects, and their traceback is wanted.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        # `ape run` takes the checkout off the path once it has loaded a script, before it runs the
        # command, which imports what it needs only now.
        if _CHECKOUT not in sys.path:
            sys.path.append(_CHECKOUT)
        try:
            return function(*args, **kwargs)
        except GridCommonsError as error:
            message = " ".join(str(error).split())
            click.echo(f"Error: {message}", err=True)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise SystemExit(INTERRUPTED) from None

    return wrapped


def stop_on_signals() -> threading.Event:
    """Set by the first SIGINT or SIGTERM; a second one ends at once.

    Called once Ape is imported, which sets a handler of its own.
    """
    stop = threading.Event()

    def asked(number: int, _: object) -> None:
        stop.set()
        again = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, again)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
    return stop


def printable(text: str) -> str:
    """Text from elsewhere on one line, without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def read_input(name: str) -> bytes:
    """The bytes of a file, or of standard input for "-". BadUse if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except AttributeError:
        raise BadUse(f"cannot read {name}: there is no standard input") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadUse(f"cannot read {name}: {reason}") from None


def address_from(text: str, option: str = "") -> str:
    """An address with its checksum. BadUse otherwise; `option` says where it stood."""
    from dao.eip712 import checksum_address

    try:
        return checksum_address(text)
    except ValueError:
        named = f"{option} {text}".strip()
        raise BadUse(f"{named}: expected an address of 20 bytes, 0x...") from None


def is_local(network: str) -> bool:
    """Whether `--network` names a local node by its URL."""
    return network.startswith(("http://", "https://"))


def network_option(node: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """--network. node: used where none is named, which --rpc names too; None: one has to be."""
    return click.option(
        *(("--network",) if node is None else ("--network", "--rpc", "network")),
        default=node,
        required=node is None,
        show_default=node is not None,
        help="Ape's name of a network (ethereum:sepolia:node), or the URL of a local node.",
    )


def chain_options(
    role: str, local: int, node: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The options of a command that acts on a chain: --network, --account and --deployment.

    role: what its account does. local: the account of a local node that does so unless another is
    named. node: see `network_option`.
    """
    account = click.option(
        "--account",
        help=f"Alias of the Ape account that {role}; on a local node the number, 0 to 9, of one of "
        f"its accounts.  [default there: {local}]",
    )

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        return network_option(node)(account(deployment_option(function)))

    return decorated


@contextmanager
def open_as(network: str, account: str | None, local: int) -> Iterator[tuple[Chain, Account]]:
    """The chain and the account of `chain_options`. Raises what `open_chain` raises, and BadUse for
    an account that a local node does not have."""
    number = str(local) if account is None else account
    if is_local(network) and number not in map(str, range(10)):
        raise BadUse(f"--account {account}: a local node has the accounts 0 to 9")
    with open_chain(network, account) as chain:
        yield chain, chain.accounts[int(number)] if chain.is_local else chain.deployer


def unlocked(account: Account) -> Account:
    """The account, one of Ape's unlocked: for a command that signs when nobody is there to ask.

    Ape takes its passphrase from the environment (APE_ACCOUNTS_<alias>_PASSPHRASE) or asks for it.
    """
    from dao.chain import ApeAccount

    if isinstance(account, ApeAccount) and hasattr(account.account, "set_autosign"):
        from ape.exceptions import ApeException

        try:
            account.account.set_autosign(True)
        except (ApeException, click.Abort) as error:
            raise CheckFailed(f"the account {account.address} stays locked: {error}") from None
    return account


def open_chain(network: str, account: str | None) -> Chain:
    """The chain that `--network` names; on one that is not local `account` is who pays.

    BadUse without an account or for an unknown name, CheckFailed where nothing answers.
    """
    from dao.chain import Chain

    def notify(text: str) -> None:
        click.echo(text, err=True)

    if is_local(network):
        # A node's time belongs to whoever started it: one that lives in real time goes on so.
        return Chain.local(network, hold_time=False, notify=notify)
    if account is None:
        raise BadUse("--account is needed on a network that is not local (`ape accounts list`)")
    return Chain.connect(network, account, notify=notify)
