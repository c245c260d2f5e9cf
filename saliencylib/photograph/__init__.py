"""One photograph through all three papers (notebook 05)."""
