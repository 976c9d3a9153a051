"""Programs that show Nearsight at work, written against its public names only."""
