"""What the form says, as one frozen value, and its patches, planned beside the window."""
