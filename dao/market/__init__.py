# SPDX-License-Identifier: Apache-2.0
"""The market off chain: orders and signatures, the canonical clearing, books as files."""
