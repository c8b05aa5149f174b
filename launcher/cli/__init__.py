"""The command line: app.py declares the commands, the other rooms do the work."""
