"""Hubs inside frameworks; each module needs the extra of its name.  Layer: edges."""
