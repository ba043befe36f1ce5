"""Training without an export: patches from their sources, samplers, normalisation, CAREamics."""
