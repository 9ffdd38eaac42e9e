# SPDX-License-Identifier: Apache-2.0
"""Reading: the run's state file and the index of chain events. Read-only, bounded, no network."""
