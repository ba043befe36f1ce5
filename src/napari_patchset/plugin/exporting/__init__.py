"""The export: in the background, with progress and cancel, and its plan as a file or a command."""
