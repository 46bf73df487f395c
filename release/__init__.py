"""`make release`: wheel and sdist, checked and tried."""
