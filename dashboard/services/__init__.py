# SPDX-License-Identifier: Apache-2.0
"""What the page shows, computed from what the repositories read. Nothing here draws."""
