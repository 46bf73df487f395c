"""The command `covergate`."""
