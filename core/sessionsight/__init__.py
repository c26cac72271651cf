"""Server-side analytics that land in the visitor's own session."""
