"""Lockstep from Python, in a script or a notebook: train, launch a function on several ranks, look at runs."""
