"""Clients as programs use them, and raw peers."""
