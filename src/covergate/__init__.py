"""CoverGate."""
