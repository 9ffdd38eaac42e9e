# SPDX-License-Identifier: Apache-2.0
"""The collector as a service: frames by HTTP and MQTT, one writer, batches to the ledger when due.

What a reading must be and what becomes of it is the collector's (`meters/collector.py`); nothing
here judges one.
"""
