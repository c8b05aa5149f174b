"""All cases of the zoo."""

from __future__ import annotations

from tests.zoo.evaluation_cases import EVALUATION_CASES
from tests.zoo.image_cases import IMAGE_CASES
from tests.zoo.layer_cases import LAYER_CASES
from tests.zoo.model_cases import MODEL_CASES
from tests.zoo.own_data_cases import OWN_DATA_CASES
from tests.zoo.table_cases import TABLE_CASES

CASES = [*EVALUATION_CASES, *IMAGE_CASES, *LAYER_CASES, *MODEL_CASES, *OWN_DATA_CASES, *TABLE_CASES]
