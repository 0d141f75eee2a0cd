"""What the tests of the hub share with those of the guarantees."""

from tests.guarantees.conftest import hasty_threads

__all__ = ["hasty_threads"]
