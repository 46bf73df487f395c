"""Sending vendors' calls: a `Call` becomes a `Reply` or a typed error."""
