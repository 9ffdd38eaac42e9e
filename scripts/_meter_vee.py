# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter replay`: whether the edits of a batch can be computed again."""

from __future__ import annotations

import json

import click

from dao.errors import CheckFailed
from scripts._common import handles_errors, json_option

SHOWN_PROBLEMS = 20


@click.command()
@click.argument("file", metavar="FILE.parquet")
@json_option
@handles_errors
def replay(file: str, as_json: bool) -> None:
    """Compute every edit of a batch file again, from its records alone.

    Each record's rule must give the recorded result, the steps of a row must lead from what the
    device signed to what is committed, and no value may be there without a signature or a record.
    """
    from meters.lake import read_batch
    from meters.vee.check import replay_batch

    found = replay_batch(read_batch(file))
    if as_json:
        document = {
            "rules": found.rules,
            "rows": found.rows,
            "erased": found.erased,
            "unseen": found.unseen,
            "problems": list(found.problems),
        }
        click.echo(json.dumps(document))
    else:
        for rule, count in found.rules.items():
            click.echo(f"{rule:<22}{count:>8,}")
        if found.erased:
            click.echo(f"{'erased':<22}{found.erased:>8,}")
        if found.unseen:
            click.echo(f"{'numbers in no row':<22}{found.unseen:>8,}")
        for problem in found.problems[:SHOWN_PROBLEMS]:
            click.echo(problem, err=True)
    if found.problems:
        more = len(found.problems) - 1
        others = f", and {more} more problems" if more else ""
        raise CheckFailed(f"{found.problems[0]}{others}")
    if not as_json:
        records = sum(found.rules.values())
        click.echo(
            f"{records:,} edit records in {found.rows:,} rows: all give the committed values."
        )
