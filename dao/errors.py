# SPDX-License-Identifier: Apache-2.0
"""The errors a person may see, each with the exit code its command ends with.

Raised with one line that says what was wrong and what would be accepted. Scripts print it as
`Error: ...` on stderr; everything else that escapes is a defect of the program.
"""

from __future__ import annotations


class GridCommonsError(Exception):
    """Base of every error meant for the person at the command line."""

    exit_code: int = 1


class CheckFailed(GridCommonsError):
    """A check did not pass: node unreachable, proof not valid, nothing to do. Exit code 1."""

    exit_code = 1


class BadUse(GridCommonsError):
    """Input that cannot be used: unknown zone, unreadable or malformed file. Exit code 2."""

    exit_code = 2
