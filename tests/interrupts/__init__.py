"""Public calls, interrupted at every place: by an exception, and by another call.

``interrupting.py`` has the hub, the calls and the tools; ``test_strikes.py`` raises an exception
inside each call; ``test_reentry.py`` makes other calls inside each call.
"""
