"""The settings of a ticking room: what is refused, and the rate in its two forms."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HotlineFrameOption, SettingError, UsageError
from tests.rooms.ticking.rooms import AnyVirtualHub, nothing, run


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("hz", {"hz": -1}),
        ("hz", {"hz": float("nan")}),
        ("hz", {"hz": float("inf")}),
        ("hz", {"hz": True}),
        ("hz", {"hz": False}),
        ("hz", {"hz": "20"}),
        ("hz", {"hz": None}),
        ("hz", {"hz": 10_001}),
        ("hz", {"hz": 10**400}),
        ("hz_basic", {"hz_basic": -0.1}),
        ("hz_basic", {"hz_basic": float("nan")}),
        ("hz_basic", {"hz_basic": float("inf")}),
        ("hz_basic", {"hz_basic": True}),
        ("hz_basic", {"hz_basic": 0.00001}),
        ("hz_basic", {"hz_basic": 10**400}),
        ("hz_basic", {"hz": 20, "hz_basic": 0.06}),
        ("new_obj", {"new_obj": None}),
        ("new_obj", {"new_obj": []}),
        ("logic", {"logic": "logic"}),
        ("logic", {"hz": 20, "logic": None}),
        ("logic", {"hz_basic": 1, "logic": None}),
        ("on_start", {"on_start": 1}),
        ("on_close", {"on_close": 1}),
        ("on_overrun", {"on_overrun": 1}),
        ("overrun", {"overrun": "catch up"}),
        ("overrun", {"overrun": None}),
        ("catch_up", {"catch_up": 0}),
        ("catch_up", {"catch_up": 1.5}),
        ("catch_up", {"catch_up": True}),
        ("catch_up", {"catch_up": 10**400}),
        ("control_size", {"control_size": 0}),
        ("control_size", {"control_size": -1}),
        ("max_overruns", {"max_overruns": 0}),
        ("max_overruns", {"max_overruns": float("inf")}),
        ("close_on_error", {"close_on_error": 1}),
    ],
)
def test_option_wrong_field_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    """The error comes when the option is made, and says what is allowed."""
    with pytest.raises(SettingError, match=f"^{field}: .+") as raised:
        HotlineFrameOption[Any](**{"new_obj": list, "logic": nothing, **fields})
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("fields", "hz", "dt"),
    [
        ({}, 0, 0),
        ({"hz": 0, "hz_basic": 0.0}, 0, 0),
        ({"hz": 10}, 10, 0.1),  # the specification's example
        ({"hz": 49}, 49, 1 / 49),
        ({"hz": 0.1}, 0.1, 10),
        ({"hz_basic": 0.25}, 4, 0.25),
        ({"hz": 20, "hz_basic": 0.05}, 20, 0.05),
        ({"hz": 10_000}, 10_000, 0.0001),
        ({"hz": 2**-999}, 2**-999, 2**999),
    ],
)
def test_option_rate_is_given_either_way(
    hub: AnyVirtualHub, fields: dict[str, Any], hz: float, dt: float
) -> None:
    """Ticks a second, or seconds between ticks; both, if they agree; zero means no ticks."""
    frame = run(hub, nothing, **fields)
    assert frame.hz == hz
    assert frame.exec_sync(lambda frame, _: frame.tick.dt) == dt
    if hz:
        assert frame.latency_time(1.0) == pytest.approx(1 / hz)
        assert frame.latency_time(0) == 0
    else:
        with pytest.raises(UsageError, match="no ticks"):
            frame.latency_time(1.0)
