"""Charts as teams have them, carried over to two tracks: forty and more after public ones, and as many as a seed makes."""
