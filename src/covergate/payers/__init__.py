"""The payer directory: one gateway id for each payer, what it is called, and each vendor's own code for it."""
