"""Patches as pictures: a sheet of many, and the one that was picked."""
