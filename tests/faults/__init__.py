"""What the world does to a server, and what hubthread does then: see ``table.py``."""
