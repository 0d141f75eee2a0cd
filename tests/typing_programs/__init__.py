"""Small programs of users, for the type checker alone: nothing here is ever run.

``assert_type`` says what a call gives; a ``type: ignore`` with its code says what is refused,
and is itself refused where there is nothing to ignore.  ``tests/test_typing.py`` checks them.
"""
