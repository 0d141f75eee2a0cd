"""Typed messages: find the handler of a message, and convert its payload to the handler's type.

Read the files in this order:

==========  ================================================================================
codecs      integers as bytes
jsontypes   types that stand in JSON as another value, and those that the program registers
jsontext    JSON text to values and back, hardened against hostile input
formats     header formats: split a message into header and payload, join a reply
converters  closures that convert JSON values to typed values
records     the fields of dataclasses, attrs classes and the like
models      converters by the rules of msgspec and pydantic
compile     a type to its converter
handlers    check a function, and prepare it for its messages
matcher     ``MatcherMap`` and ``SubMatcher``: handlers by header
==========  ================================================================================

Handlers are checked on the thread that registers them.  Messages are handled on the thread
that runs the client's callbacks.
"""
