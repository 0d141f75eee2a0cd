"""Properties that hold for any bytes: the targets, and a run of them of any length."""
