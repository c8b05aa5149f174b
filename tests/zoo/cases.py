"""All cases of the zoo."""

from __future__ import annotations

from tests.zoo.image_cases import IMAGE_CASES
from tests.zoo.own_data_cases import OWN_DATA_CASES

CASES = [*IMAGE_CASES, *OWN_DATA_CASES]
