"""Runs the command `sessionsight` as `python -m sessionsight`."""

from sessionsight.cli import main

if __name__ == "__main__":
    main()
