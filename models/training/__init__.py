"""How the embedded `nano` files were made: one command, `python -m training --data DATA --work WORK --resume`."""
