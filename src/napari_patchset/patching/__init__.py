"""The choice of patches; no pixels, no files."""
