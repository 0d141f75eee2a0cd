"""Tests of hubs inside WSGI servers, which run in processes of their own."""
