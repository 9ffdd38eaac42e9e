# SPDX-License-Identifier: Apache-2.0
"""The keeper: carries every session, passed vote and revealed forecast on when its time has come.

`duties` says what is due and does it, in `loop`; `watch` finds it on chain, `receipts` what devices
signed, `steps` keeps a failure apart, `sending` asks before it sends, `context` is what all share.
"""
