"""Access: callers, API keys, operators, the audit log."""
