"""Who may do what: callers, API keys, the audit log."""
