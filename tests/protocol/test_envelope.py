"""The envelope around pushes of shared rooms."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.envelope import Enveloped, Place, envelop
from hubthread.protocol.frames import Frame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(value=JSON, room=st.text(min_size=1), number=st.integers(1, 2**60))
def test_envelope_of_json_holds_it_as_data(value: object, room: str, number: int) -> None:
    pushed = Frame(json.dumps(value), 1)
    found = json.loads(envelop(pushed, room, number).body)
    assert found == {"room": room, "n": number, "data": value}


@pytest.mark.parametrize("text", ["hello", "", "{", '{"a":NaN}', "[1] 2", 'say "hi"', "é\u2028"])
def test_envelope_of_other_text_holds_a_string(text: str) -> None:
    found = json.loads(envelop(Frame(text, 1), "r", 7).body)
    assert found == {"room": "r", "n": 7, "text": text}


@given(body=st.binary())
def test_envelope_of_bytes_holds_base64(body: bytes) -> None:
    found = json.loads(envelop(Frame(body, 2), "r", 7).body)
    assert b64decode(found.pop("bytes")) == body
    assert found == {"room": "r", "n": 7}


def test_batch_with_a_place_numbers_its_frames_for_peers_that_get_envelopes() -> None:
    batch = FrameBatch([Frame("1", 1), Frame("2", 1)], [None, None], Place("r", [41, 42]))
    joined, wires = batch.encoded(Enveloped(None))
    assert wires == [envelop(Frame(text, 1), "r", n).wire for text, n in (("1", 41), ("2", 42))]
    assert joined == b"".join(wires)
    assert batch.encoded(Enveloped(None))[0] is joined  # made once for all members
    assert batch.encoded(None)[1] == [Frame("1", 1).wire, Frame("2", 1).wire]


def test_batch_without_a_place_is_the_same_for_all() -> None:
    batch = FrameBatch([Frame("x" * 100, 1)], [None])
    assert batch.encoded(Enveloped(None)) is batch.encoded(None)
    assert batch.encoded(Enveloped(15)) is batch.encoded(15)


def test_batch_with_a_place_is_compressed_as_negotiated() -> None:
    frame = Frame(json.dumps("x" * 500), 1)
    batch = FrameBatch([frame], [None], Place("r", [1]))
    assert batch.encoded(Enveloped(12))[0] == envelop(frame, "r", 1).deflated(12)
