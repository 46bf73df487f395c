"""Access: callers, their API keys, the audit log."""
