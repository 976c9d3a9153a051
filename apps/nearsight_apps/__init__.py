"""Programs built on Nearsight, written against its public names only."""
