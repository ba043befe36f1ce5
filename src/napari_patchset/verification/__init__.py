"""Verify a patch set: its files and table against its manifest, its patches against its sources."""
