# SPDX-License-Identifier: Apache-2.0
"""The chain as Python objects: deployments, market, governance, index.

Imports no other package of the tree.
"""
