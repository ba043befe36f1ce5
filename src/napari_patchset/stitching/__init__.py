"""Predictions of patches, put together again as images."""
