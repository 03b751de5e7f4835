"""Gymnasium for the tests that need it: None where it is not installed, except where everything has to be tested."""

import os

import pytest

try:
    import gymnasium
except ModuleNotFoundError:
    if os.environ.get("CI"):
        raise
    gymnasium = None

needs_gymnasium = pytest.mark.skipif(gymnasium is None, reason="NOT TESTED: Gymnasium is not installed ('.[gym]')")
