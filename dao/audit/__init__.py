# SPDX-License-Identifier: Apache-2.0
"""The audit dossier: a period of a zone as data, with what proves it against the chain.

    scope     which period, which contracts, which blocks, which events belong
    tables    every table of a dossier: columns, units, meaning, and on whose word it rests
    build     the tables that follow from the chain's events (`market`, `energy`, `decisions`, ...)
    package   one file of all that, its manifest and root
    export    makes one; verify checks one

Nothing here sees a reading. What needs the lake comes in as finished tables (`operator_part`).
"""
