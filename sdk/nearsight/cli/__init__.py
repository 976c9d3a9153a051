"""The command line: `main` finds sub-commands by entry point, and each file beside it is one of them."""
