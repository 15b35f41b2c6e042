"""Every error that the program can print, and what taking its advice comes to."""
