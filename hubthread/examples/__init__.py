"""Programs to run, read and take from: each is one file.  Layer: top.

They need Flask: ``pip install 'hubthread[flask]'``.
"""
