# SPDX-License-Identifier: Apache-2.0
"""Adapters: from the raw bytes of a device or portal to normalised readings.

`engine` holds what all of them share, `fields` reads numbers, times, units, JSON and XML out of
bytes that nobody vouches for; every other module is one family of adapters. Nothing here opens a
socket or a file.
"""
