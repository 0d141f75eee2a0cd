"""Rooms: hotlines without a clock here, ticking rooms in ``ticking``."""
