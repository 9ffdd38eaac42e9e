# SPDX-License-Identifier: Apache-2.0
"""Sources: from a device's line or socket to samples. Each protocol has its own module.

A reader hands on raw payloads; `samples` turns them into what the intervals take, through the
adapters, and judges the device's clock. What is done with samples is the run's business.
"""
