"""The engine's fixtures serve here too."""

from tests.verifications.conftest import advancer, engine, gateway, wire

__all__ = ["advancer", "engine", "gateway", "wire"]
