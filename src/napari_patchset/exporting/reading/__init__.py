"""The images of a plan: opened, described, compared, and read with each tile decoded once."""
