from __future__ import annotations

import pytest

from lockstep.launcher.config.resolution import recipes, resolve
from lockstep.training.config.config_identity import identity_sha256
from tests.launcher.config.test_fitting_loss import NUMBERS

IDENTITIES = {
    "cifar10": "2c1e6d9924228215e289a07f9583bf39caa4c49fddf43f50de3db98de3ccea96",
    "csv": "9402863da36f8f6f3542dd39b44470fe66a95380880ccd476bd274abba677e34",
    "csv_images": "bb04d6162191d0f6cf638af73ae5d12235fc74b18132682a2aea64b9b47d83a2",
    "digits": "e9e09c96e64fff0c14e7da2cf41886c1ce9d0a2c1a232c596d10843f2972205f",
    "fashion_mnist": "a834459ded2c44ac1653ee36abb242d6dd80e872a35e0a0ad6e2c3cd92232269",
    "mnist": "8ef14e00e5d883661c6e905f4d12cee875f4a12807738416cf92cc8ba43f3a4e",
    "regression": "f2f8622b5d3767b36f5ee72b263234107a6e851a474cbb907964ebd618c00bf3",
}
"""What the checkpoints of version 0.1 hold: with another identity none of them could be resumed."""


def test_every_recipe_keeps_the_identity_that_its_checkpoints_hold() -> None:
    found = {name: resolve(name).with_found(NUMBERS)[0].config for name in recipes()}
    assert {name: identity_sha256(config) for name, config in found.items()} == IDENTITIES


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["optimizer.use=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"],
            "a1ebc2c736651baf80735583c73f85fd0ae15cfd5b64d07be6fbc36f4d156e3c",
        ),
        (
            ["optimizer.use=adamw", "optimizer.betas=[0.9, 0.95]", "optimizer.eps=1e-6"],
            "2006dd01319cb6f25a0c8378f21897e1830bc65737a11bd8a61fe93e31182544",
        ),
    ],
)
def test_an_optimizers_own_keys_are_part_of_the_identity(settings: list[str], expected: str) -> None:
    assert identity_sha256(resolve("digits", settings).config) == expected
