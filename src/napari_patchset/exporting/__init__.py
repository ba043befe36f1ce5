"""From a plan to a patch set: plan, score, select, write and finalize, each resumable."""
