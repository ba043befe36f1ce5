"""Which patches train and which validate, without a pixel in common."""
