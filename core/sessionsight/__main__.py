"""`python -m sessionsight` is the command `sessionsight`."""

from sessionsight.cli import main

if __name__ == "__main__":
    main()
