"""Tests of the browser's client, which run in Node with fake sockets and fake time."""
