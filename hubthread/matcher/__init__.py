"""Typed messages: find the handler of a message, and convert its payload to the handler's type.

Read the files in this order:

=================  ==========================================================================
``codecs.py``      integers as bytes
``jsontypes.py``   types that stand in JSON as another value, and those of the program
``jsontext.py``    JSON text to values and back, hardened against hostile input
``formats.py``     header formats: split a message into header and payload, join a reply
``converters.py``  closures that convert JSON values to typed values
``records.py``     the fields of dataclasses, attrs classes and the like
``models.py``      converters by the rules of msgspec and pydantic
``compile.py``     a type to its converter
``handlers.py``    check a function, and prepare it for its messages
``matcher.py``     ``MatcherMap`` and ``SubMatcher``: handlers by header; ``route`` finds the
                   handler of a message
=================  ==========================================================================

Handlers are checked on the thread that registers them.  Messages are handled on the thread
that runs the client's callbacks.
"""
