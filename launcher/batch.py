"""``python -m lockstep.launcher.batch RUN``: what the scripts of jobs call that 0.1 has queued; now in ``job/``."""

from __future__ import annotations

import sys

from .job import batch_supervisor

main = batch_supervisor.main

if __name__ == "__main__":
    main(sys.argv[1:])
