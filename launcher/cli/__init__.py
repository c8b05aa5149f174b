"""The command line: commands, their options, and which of them names what."""
