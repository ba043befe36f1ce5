"""Pixels from sources to patches: each tile decoded once, cut, and cast or measured."""
