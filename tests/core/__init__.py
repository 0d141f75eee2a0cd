"""The parts of a hub, one test file for each module of ``hubthread.core``."""
