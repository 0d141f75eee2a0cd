"""Tests of the backplane: the contract that every backplane has to pass, and the stream."""
