"""The torch-free side: command line, config, plan, supervisor, run folder and console."""
