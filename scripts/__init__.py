# SPDX-License-Identifier: Apache-2.0
"""The commands: each module's `cli` runs as `gridcommons NAME` and as `ape run NAME`.

`ape run` executes every module here that does not begin with an underscore, whichever command is
asked for. So commands import what is heavy inside their functions, and helpers begin with one.
"""
