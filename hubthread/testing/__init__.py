"""Rooms and clients in virtual time: tests that wait for nothing and run the same every time.

Layer: testing.
"""

from hubthread.testing.client import VirtualClient as VirtualClient
from hubthread.testing.clock import FakeClock as FakeClock
from hubthread.testing.hub import VirtualHub as VirtualHub

__all__ = ["FakeClock", "VirtualClient", "VirtualHub"]
