"""Shared state: plans, patches, and what members have."""
