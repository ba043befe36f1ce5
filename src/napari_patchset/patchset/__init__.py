"""The patch set on disk."""
