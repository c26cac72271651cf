"""Capturing: the calls that views make, and the records that they make of them."""
