# SPDX-License-Identifier: Apache-2.0
"""Drawing: each view takes what a service computed and puts it on the page."""
