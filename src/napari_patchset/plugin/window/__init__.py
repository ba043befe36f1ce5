"""What the plugin asks of the window: dialogs, notifications, threads beside it, preferences."""
