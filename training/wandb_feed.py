"""``python -m lockstep.training.wandb_feed RUN``: sends a run to W&B; the code is in ``tracking/``."""

from __future__ import annotations

import sys

from .tracking import feeder

main = feeder.main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
