# SPDX-License-Identifier: Apache-2.0
"""The `gridcommons` command, also `python -m scripts`.

Knows its subcommands by name and one line of help, and imports only the one that is asked for, so
`gridcommons --help` starts fast whatever a subcommand needs.
"""

from __future__ import annotations

import importlib
import sys

import click

COMMANDS = {
    "agent": "Follow the standing offers of a zone's homes.",
    "audit": "A period as a dossier that proves itself, and its check.",
    "backtest": "Accuracy of the forecasts on past days, against the naive ones.",
    "balance": "Plan what keeps the grid within its limits, and see what it did.",
    "dao": "Propose, vote, and see what a decision would do.",
    "dashboard": "Serve the pages over a state folder, a node and a relay.",
    "demo": "Run the whole loop on a local chain, in front of your eyes.",
    "deploy": "Deploy the contracts and hand every role to the timelock.",
    "evidence": "Recompute a committed forecast from its evidence.",
    "forecast": "Quantile forecast of any interval series.",
    "keeper": "Clear, settle, execute and score what is due on the chain.",
    "market": "Clear an order book.",
    "meter": "Read what meters say, collect it, open and erase a home's readings.",
    "relay": "Take signed orders over HTTP, post them in batches, pay the gas.",
    "status": "How node, contracts, relay, keeper, agent and collector are.",
}
"""Subcommand, which is also the module in scripts/, and its line in the help."""


class LazyCommands(click.Group):
    """A group whose commands are modules, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"scripts.{name}").cli
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"gridcommons {version('gridcommons')}")
    except PackageNotFoundError:
        click.echo("gridcommons (run from a checkout, not installed)")
    ctx.exit()


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def gridcommons() -> None:
    """A neighbourhood's own electricity market and its own rules."""


def main() -> None:
    """The console entry point."""
    # A terminal or pipe that cannot show a sign gets its escape instead of ending the command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    gridcommons(prog_name="gridcommons")


if __name__ == "__main__":
    main()
