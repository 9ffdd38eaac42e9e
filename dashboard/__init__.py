# SPDX-License-Identifier: Apache-2.0
"""The page people watch. `views` draw, `services` compute, `repositories` read."""
