"""The sources of a plan: opened, described, and held to what one set must agree in."""
