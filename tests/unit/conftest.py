"""Hypothesis for every day: few examples and no deadlines, which a busy machine would miss. `HYPOTHESIS_PROFILE=long`
looks harder."""

import os

from hypothesis import settings

settings.register_profile("unit", max_examples=40, deadline=None, print_blob=True)
settings.register_profile("long", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))
