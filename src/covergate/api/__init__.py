"""The HTTP API (docs: `/docs`): one file per resource; what is decided, stored and shown is decided in the core."""
