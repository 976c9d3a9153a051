"""How the caption decoder of the nano family was made: `python -m training.caption` from `models/`."""
