"""What a user can mend: an argument or a file. Each message names value, limit and remedy."""


class PatchsetError(Exception):
    """Say in one line what is wrong and what to do; shown as it is, never with a traceback."""


class ArgumentError(PatchsetError, ValueError):
    """An argument is outside of what is allowed."""


class MissingAxisError(PatchsetError, RuntimeError):
    """The image lacks the axis that was asked for as depth axis."""


class SampleIndexError(PatchsetError, IndexError):
    """The sample index is outside of the stack."""


class UnreadableFileError(PatchsetError, ValueError):
    """The file is damaged, or of a kind that can't be read."""


class ExportError(PatchsetError, RuntimeError):
    """The export can't begin, go on or be completed as asked."""


class IncompleteSetError(PatchsetError, ValueError):
    """The folder is no complete patch set."""
