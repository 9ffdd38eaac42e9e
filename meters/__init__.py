# SPDX-License-Identifier: Apache-2.0
"""From a device's bytes to a committed batch: signing, validation, leaves, collector, lake."""
