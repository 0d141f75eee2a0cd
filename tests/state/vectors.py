"""Patches with the states before and after them, for the appliers of all clients.

``python -m tests.state.vectors`` writes ``vectors.json`` anew.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from hubthread.state.patch import merge
from hubthread.state.plan import plan_of
from hubthread.state.shadow import SAME, Difference

FILE = Path(__file__).with_name("vectors.json")


def values(chance: random.Random, depth: int = 0) -> Any:
    """Return any value that JSON can say."""
    kind = chance.randrange(4 if depth > 2 else 6)
    if kind == 4:
        return [values(chance, depth + 1) for _ in range(chance.randrange(3))]
    if kind == 5:
        return {
            key: values(chance, depth + 1) for key in chance.sample("abc", chance.randrange(4))
        }
    return (None, chance.randrange(3), chance.choice("xyz"), chance.random() < 0.5)[kind]


def mutate(chance: random.Random, state: Any) -> None:
    """Change one value somewhere in an object."""
    inner = [each for each in state.values() if isinstance(each, dict | list) and each]
    if inner and chance.random() < 0.6:
        found = chance.choice(inner)
        if isinstance(found, dict):
            mutate(chance, found)
        else:
            found.append(values(chance, 2))
    elif state and chance.random() < 0.3:
        del state[chance.choice(sorted(state))]
    else:
        state[chance.choice("abcd")] = values(chance, 1)


def vectors() -> list[dict[str, Any]]:
    """Return the cases."""
    chance = random.Random(20)
    # A name that JavaScript's objects have already.
    cases: list[dict[str, Any]] = [
        {
            "before": {"names": {}},
            "patch": {"set": {"names": {"__proto__": {"x": 1}, "constructor": 2}}},
            "after": {"names": {"__proto__": {"x": 1}, "constructor": 2}},
        },
        {
            "before": {"names": {"__proto__": {"x": 1}}},
            "patch": {"set": {"names": {"__proto__": {"x": 2}}}, "del": []},
            "after": {"names": {"__proto__": {"x": 2}}},
        },
        {
            "before": {},
            "patch": {"set": {"__proto__": {"x": 1}, "toString": {"y": 1}}},
            "after": {"__proto__": {"x": 1}, "toString": {"y": 1}},
        },
        {
            "before": {"__proto__": {"x": 1}, "toString": {"y": 1}},
            "patch": {"del": [["toString", "y"]], "set": {"__proto__": {"z": 2}}},
            "after": {"__proto__": {"x": 1, "z": 2}, "toString": {}},
        },
    ]
    state: dict[str, Any] = {}
    shadow = plan_of(dict).make(state, Difference())
    while len(cases) < 60:
        before = json.loads(json.dumps(state))
        for _ in range(chance.randrange(1, 4)):
            mutate(chance, state)
        found = Difference()
        said = shadow.diff(state, found, found.patch)
        if said is not SAME:
            merge(found.patch.sets, said)
        if found.patch:
            cases.append({"before": before, "patch": found.patch.fields(), "after": state})
            cases[-1] = json.loads(json.dumps(cases[-1]))
    return cases


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in vectors())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
