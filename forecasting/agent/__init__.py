# SPDX-License-Identifier: Apache-2.0
"""Standing offers, and the agent that follows them: what an owner said once, kept every session.

    offers    what an owner signs, and what is wrong with it
    store     offers.sqlite: every version, and what the agent did for each session
    recent    a home's own last days, from lake and inbox
    plan      the energy and price of one order inside offer and mandate, or why there is none
    follow    a round over all offers: decide, sign, hand to the relay
    keys      the agent's key for each account

Nothing here imports Ape, so that the page and the service start fast.
"""
