"""What an export under way keeps in NAME.partial/, so that any process can go on with it."""
