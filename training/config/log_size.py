"""The size of a rank's log. No torch and no pydantic here: the command line's help shows it."""

DEFAULT_LOG_MB = 1024
"""Megabytes of what a rank prints in one attempt, where nothing else is asked for."""
