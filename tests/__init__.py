"""Tests mirror the folders of the sources; ``helpers`` is what several of them share."""

import pytest

pytest.register_assert_rewrite("tests.helpers")  # a helper that asserts shows the values, too
