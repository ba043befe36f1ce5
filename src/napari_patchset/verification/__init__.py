"""Hold a patch set against itself and against its sources."""
