# SPDX-License-Identifier: Apache-2.0
"""Every figure that the README claims, reproducible by `python -m benchmarks`.

One module is one suite with one function `run() -> Result`. Peers are run beside it, in the same
process and on the same input, so that a ratio never compares two machines.
"""
