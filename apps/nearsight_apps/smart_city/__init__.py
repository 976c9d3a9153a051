"""Watch a camera: follow what is asked for, count it over lines, and keep every event findable."""
