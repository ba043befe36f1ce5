"""Where patches lie: no pixels, no files."""
