"""The batch script of every SLURM job, as packaged data."""
