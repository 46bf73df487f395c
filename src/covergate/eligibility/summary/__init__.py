"""The short reading of the benefits: a file for each rule that makes a cell of it (docs/x12.md#choosing-an-amount)."""
