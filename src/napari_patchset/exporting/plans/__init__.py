"""The plan of an export: its models, and how files, a command and a samples sheet make one."""
