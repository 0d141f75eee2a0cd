"""Faults of peers, of the machine and of the program itself; ``table.py`` lists them."""
