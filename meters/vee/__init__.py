# SPDX-License-Identifier: Apache-2.0
"""Validation, estimation and editing: what is wrong with a batch, and what was put in its place.

Works on readings whose signatures have been checked. Every change is a record that anybody can
compute again (`records.replay`); what is only suspicious is flagged and changes nothing.
"""
