"""All cases of the zoo."""

from __future__ import annotations

from tests.zoo.image_cases import IMAGE_CASES

CASES = [*IMAGE_CASES]
