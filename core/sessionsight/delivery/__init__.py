"""The only room with threads and I/O: records go in, verdicts are carried out."""
