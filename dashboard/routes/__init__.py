# SPDX-License-Identifier: Apache-2.0
"""What the dashboard serves beside its pages. Each module has `routes(settings)`.

A module is found by lying here; a name with a leading underscore is none. `routes` is called again
whenever the settings change, so what has to live longer is kept by the module itself.
"""
