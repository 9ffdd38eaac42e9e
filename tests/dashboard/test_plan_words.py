# SPDX-License-Identifier: Apache-2.0
"""A balancing plan's own words, as a German reads them; a member's words are left alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dashboard.i18n import ENGLISH, Locale, speaking
from dashboard.services.plan_words import summary_in_words, title_in_words
from forecasting.balancing.tell import summary_of, title_of
from tests.forecasting.balancing.conftest import PLANS

GERMAN = Locale("de")
