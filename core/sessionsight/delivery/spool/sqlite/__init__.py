"""Records wait in a SQLite file that all processes of a host share, and survive every one of them."""
