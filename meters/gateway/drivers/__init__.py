# SPDX-License-Identifier: Apache-2.0
"""Drivers: they carry one value of a schedule to a device and count what it did."""
