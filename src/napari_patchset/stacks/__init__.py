"""Pixels in: one stack class for each kind of file, and the table that opens them."""
