"""Convert JSON values by the rules of msgspec and pydantic, if the user has these libraries.

Layer: matcher.  Threads: pure functions; any thread may call them.

Structs, models and pydantic's dataclasses are theirs, and so is every type that is annotated
with their metadata, such as ``Annotated[int, msgspec.Meta(ge=0)]``.

Neither library is imported here.  A program with a class of one of them has imported it, so
the library is looked up among the loaded modules when a handler is registered (``jsontext``
does the same when a reply is encoded).

A payload is already decoded.  msgspec converts decoded values as it decodes JSON.  pydantic has
other rules for Python values than for JSON: a type for which these differ is validated as JSON
text again.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

from hubthread.errors import WrongValue
from hubthread.matcher.converters import ARRAY, JSON_TYPES, OBJECT, Mismatch, Plan
from hubthread.matcher.jsontext import marshal_json
from hubthread.matcher.jsontypes import exact_json_type
from hubthread.matcher.records import literal_values, unsupported

__all__ = ["annotated_plan", "model_plan", "owner_of"]

MOST_SHOWN = 3
"""Errors of one message that are shown; a peer could cause any number of them."""

_OWNERS = {
    "msgspec": "msgspec",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",
    "annotated_types": "pydantic",
}
"""The library that checks metadata, by the package of the metadata's class."""

_SAME_AS_PYTHON = {
    *("model", "model-fields", "model-field", "typed-dict", "typed-dict-field", "list", "dict"),
    *("str", "int", "float", "bool", "none", "any", "nullable", "default", "literal"),
    *("definitions", "definition-ref"),
}
"""The kinds of pydantic's schemas that take the same values from Python as from JSON."""

_NOT_IN_JSON = ("is-instance", "is-subclass", "callable")
_NO_SCHEMA = ("cls", "default", "metadata", "serialization", "expected", "config", "post_init")


def model_plan(cls: type, into: Any) -> Plan | None:
    """Return the plan of a struct, model or pydantic dataclass; ``None`` for another class.

    :param into: the class itself, or a generic alias of it.
    :raises HandleAnyNotPtr: for a class that its library cannot decode from JSON.
    """
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return _struct_plan(msgspec, cls, into)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return _model_plan(pydantic, cls)
    if pydantic is not None and "__pydantic_validator__" in vars(cls):
        _refuse_foreign(cls, "pydantic")
        fields, tags = _fields_and_tags(cls.__pydantic_fields__)  # type: ignore[attr-defined]
        base = Plan(lambda value: value, OBJECT, cls.__name__, fields=fields, tags=tags)
        return _adapter_plan(pydantic, into, base)
    return None


def owner_of(into: Any) -> str | None:
    """Return the library whose metadata ``Annotated`` has; ``None`` if it has but notes.

    :raises HandleAnyNotPtr: for metadata that nothing checks.
    """
    owners = set()
    for each in into.__metadata__:
        owner = _owner(each)
        if owner is None and not isinstance(each, str) and type(each).__name__ != "Doc":
            raise unsupported(
                into,
                f"nothing checks the metadata {each!r}: use that of pydantic or msgspec, or check "
                "the value in __post_init__ of a dataclass",
            )
        owners.add(owner)
    owners.discard(None)
    if len(owners) > 1:
        raise unsupported(into, "pydantic ignores the metadata of msgspec: use that of one")
    owner = owners.pop() if owners else None
    if owner is not None and owner not in sys.modules:
        raise unsupported(into, f"only {owner} checks its metadata: install and import {owner}")
    return owner


def annotated_plan(owner: str, into: Any, base: Plan) -> Plan:
    """Return the plan of ``Annotated``, converted by the ``owner`` of its metadata.

    :param base: the plan without the metadata, which tells the values in question.
    :raises HandleAnyNotPtr: for a type that the library cannot decode.
    """
    library: Any = sys.modules[owner]
    if owner == "msgspec":
        return base._replace(convert=_msgspec_convert(library, into, base.name))
    return _adapter_plan(library, into, base)


def _struct_plan(msgspec: Any, cls: Any, into: Any) -> Plan:
    name = cls.__name__
    _refuse_foreign(cls, "msgspec")
    convert = _msgspec_convert(msgspec, into, name)
    config = cls.__struct_config__
    if config.array_like:
        return Plan(convert, ARRAY, name)
    fields = msgspec.inspect.type_info(into).fields
    tags = {
        field.encode_name: frozenset((type(value), value) for value in field.type.values)
        for field in fields
        if isinstance(field.type, msgspec.inspect.LiteralType)
    }
    if config.tag is not None:
        tags[config.tag_field] = frozenset({(type(config.tag), config.tag)})
    return Plan(convert, OBJECT, name, fields=frozenset({*tags, *_names(fields)}), tags=tags)


def _names(fields: Any) -> Iterator[str]:
    return (field.encode_name for field in fields)


def _msgspec_convert(msgspec: Any, into: Any, name: str) -> Callable[[Any], Any]:
    try:
        msgspec.json.Decoder(into)  # raises for a type that it cannot decode
        info = msgspec.inspect.type_info(into)
    except Exception as error:  # an annotation may run any code
        raise unsupported(into, str(error)) from error
    for node in _nodes(info, set(), needed=True):
        kind = type(node).__name__
        if kind == "RawType":
            raise unsupported(into, "msgspec.Raw is undecoded JSON, and the payload is decoded")
        if kind == "CustomType" and not _is_read(node.cls):
            what = node.cls.__name__
            raise unsupported(into, f"msgspec cannot make a {what}: register_json_type({what}, …)")
    # Each option costs time.
    options: dict[str, Any] = {}
    for node in _nodes(info, set(), needed=False):
        if type(node).__name__ == "CustomType":
            options["dec_hook"] = _decoded
        elif type(node).__name__ == "DictType" and type(node.key_type).__name__ != "StrType":
            options["str_keys"] = True
    library_convert = msgspec.convert
    if options:
        library_convert = functools.partial(library_convert, **options)

    def convert(value: Any) -> Any:
        try:
            return library_convert(value, into)
        except msgspec.ValidationError as error:
            raise Mismatch(f"not a {name}: {error}") from error

    return convert


def _is_read(kind: type) -> bool:
    known = exact_json_type(kind)
    return known is not None and known.decode is not None


def _decoded(kind: type, value: Any) -> Any:
    """Make a value of a registered type, for msgspec, which adds the path to an error."""
    known = exact_json_type(kind)
    if known is None or known.decode is None:
        raise ValueError(f"nothing makes a {kind.__name__} of a JSON value")
    try:
        return known.decode(value)
    except Exception as error:
        raise ValueError(f"expected {known.wanted}: {error}") from error


def _nodes(info: Any, seen: set[int], *, needed: bool) -> Iterator[Any]:
    """Yield the types in a type of msgspec.

    :param needed: only those of which each value has one: no alternatives, no defaults.
    """
    if id(info) in seen:
        return
    seen.add(id(info))
    yield info
    parts = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type")]
    parts += getattr(info, "item_types", ())
    parts += [each.type for each in getattr(info, "fields", ()) if each.required or not needed]
    parts += () if needed else getattr(info, "types", ())
    for part in parts:
        if part is not None:
            yield from _nodes(part, seen, needed=needed)


def _model_plan(pydantic: Any, cls: Any) -> Plan:
    try:
        cls.model_rebuild()  # does nothing unless a name in it was not defined yet
    except Exception as error:  # an annotation may run any code
        raise unsupported(cls, str(error)) from error
    _refuse_foreign(cls, "pydantic")
    schema = cls.__pydantic_core_schema__
    _refuse_python_only(schema, cls)
    convert = _validator(
        pydantic, cls.__name__, schema, cls.model_validate, cls.model_validate_json
    )
    # A root model may take any JSON value.
    if issubclass(cls, pydantic.RootModel):
        return Plan(convert, JSON_TYPES, cls.__name__)
    fields, tags = _fields_and_tags(cls.model_fields)
    return Plan(convert, OBJECT, cls.__name__, fields=fields, tags=tags)


def _fields_and_tags(infos: Any) -> tuple[frozenset[str], dict[str, frozenset[Any]]]:
    """Return the names of a model's fields in JSON, and the values of its ``Literal`` fields."""
    fields: set[str] = set()
    tags: dict[str, frozenset[Any]] = {}
    for name, field in infos.items():
        alias = field.validation_alias
        keys = {name} if alias is None else {alias} if isinstance(alias, str) else set()
        fields |= keys
        values = frozenset((type(plain), plain) for plain, _ in literal_values(field.annotation))
        if values:
            tags |= dict.fromkeys(keys, values)
    return frozenset(fields), tags


def _adapter_plan(pydantic: Any, into: Any, base: Plan) -> Plan:
    try:
        adapter = pydantic.TypeAdapter(into)
    except Exception as error:  # an annotation may run any code
        raise unsupported(into, str(error)) from error
    schema = adapter.core_schema
    _refuse_python_only(schema, into)
    convert = _validator(
        pydantic, base.name, schema, adapter.validate_python, adapter.validate_json
    )
    return base._replace(convert=convert)


def _validator(
    pydantic: Any,
    name: str,
    schema: Any,
    from_python: Callable[[Any], Any],
    from_json: Callable[[str], Any],
) -> Callable[[Any], Any]:
    """Return the quicker of two ways to the same values."""
    same = _same_as_python(schema)

    def convert(value: Any) -> Any:
        try:
            return from_python(value) if same else from_json(marshal_json(value))
        except pydantic.ValidationError as error:
            raise Mismatch(f"not a {name}: {_what(error)}") from error
        except WrongValue as error:  # NaN and the like, which no JSON text brings
            raise Mismatch(f"not a {name}: {error}") from error

    return convert


def _schemas(part: Any) -> Iterator[Any]:
    """Yield the schemas and the settings directly in ``part``."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in _NO_SCHEMA and isinstance(value, dict | list | tuple):
                yield value
    elif isinstance(part, list | tuple):
        yield from part


def _same_as_python(part: Any) -> bool:
    if isinstance(part, dict):
        kind = part.get("type", "model")
        if isinstance(kind, str) and kind not in _SAME_AS_PYTHON:
            return False
        if part.get("strict") or part.get("config", {}).get("strict"):
            return False
    return all(map(_same_as_python, _schemas(part)))


def _refuse_python_only(part: Any, into: Any) -> None:
    """Refuse a schema that each value needs and no JSON value fits."""
    if isinstance(part, dict):
        kind = part.get("type")
        if kind in _NOT_IN_JSON:
            what = getattr(part.get("cls"), "__name__", kind)
            raise unsupported(into, f"pydantic makes no {what} of a JSON value")
        if kind == "json-or-python":
            _refuse_python_only(part["json_schema"], into)
            return
        # An alternative may fit, a default may stand, a function may make anything of the value.
        if kind in ("union", "tagged-union", "nullable", "default", "chain") or (
            isinstance(kind, str) and kind.startswith("function-")
        ):
            return
    for each in _schemas(part):
        _refuse_python_only(each, into)


def _refuse_foreign(cls: type, owner: str) -> None:
    """Refuse fields with limits of the other library, which ``owner`` ignores.

    :raises HandleAnyNotPtr: for such a field.
    """
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001 - names of a local class; the library has resolved them
        return
    for name, hint in hints.items():
        for each in _metadata(hint):
            if _owner(each) not in (None, owner):
                raise unsupported(
                    cls, f"{owner} ignores the metadata {each!r} of its field {name!r}"
                )


def _metadata(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is typing.Annotated:
        yield from hint.__metadata__
    for part in get_args(hint):
        yield from _metadata(part)


def _owner(metadata: object) -> str | None:
    found = _OWNERS.get(type(metadata).__module__.partition(".")[0])
    hooks = ("__get_pydantic_core_schema__", "__get_pydantic_json_schema__")
    if found is None and any(hasattr(metadata, hook) for hook in hooks):
        return "pydantic"
    return found


def _what(error: Any) -> str:
    """Return the errors in one line, with their places, without the peer's values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}".removeprefix(": ")
        for each in found[:MOST_SHOWN]
    ]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f" and {more} more" if more else "")
