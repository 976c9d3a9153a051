"""Where a graph can run: one protocol, one module per kind of chip, and the registry that says what is here."""
