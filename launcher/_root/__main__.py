"""``python -m lockstep``: the console command, where its script is not on the path."""

from lockstep.launcher.cli.start import main

if __name__ == "__main__":
    main()
