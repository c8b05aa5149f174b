"""``python -m lockstep.training.wandb_feed RUN``: sends a run to W&B; the code is in ``tracking/``."""

from __future__ import annotations

import sys

from .tracking import feeder


def main(argv: list[str]) -> int:
    """Feed W&B; ``argv`` is that of the feeder without the tracker's name."""
    return feeder.main([argv[0], "wandb", *argv[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
