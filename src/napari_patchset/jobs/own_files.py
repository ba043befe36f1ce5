"""Which files in a folder are ours: only these are ever removed or replaced."""

import re

_LITTER = re.compile(
    r"(.*/)?([.]DS_Store|Thumbs[.]db|desktop[.]ini|[.]nfs[0-9a-f]+)", re.IGNORECASE
)
"""Files of macOS's Finder, of Windows' Explorer, and of NFS for deleted files that are open."""


def is_litter(name: str) -> bool:
    """Return whether a file, by its name or path, is one that the system puts into any folder."""
    return _LITTER.fullmatch(name) is not None
