"""From a plan to a patch set."""
