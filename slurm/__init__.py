"""The SLURM side. Empty until job submission is built."""
