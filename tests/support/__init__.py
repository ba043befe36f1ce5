"""What the tests share: makers of files, gestures in the window, pages that run."""
