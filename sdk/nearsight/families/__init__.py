"""How each architecture takes pictures and words, and what its outputs mean: one leaf for each, without torch."""
