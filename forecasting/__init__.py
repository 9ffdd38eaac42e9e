# SPDX-License-Identifier: Apache-2.0
"""From readings to a decision: models, evidence, grid power flow, balancing.

Nothing is imported here: Prophet, pvlib and the power flow cost seconds, and only the functions
that need them load them.
"""

import logging

# On import Prophet reports, as an error, that an optional plotting library is missing.
logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
