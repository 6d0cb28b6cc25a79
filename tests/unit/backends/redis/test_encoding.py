"""Test the encoding of ids and data on a redis server: exactly reversible, in fewer bytes."""

import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alligator.backends.redis.connection import packed, packed_script
from alligator.backends.redis.encoding import (
    decode,
    decode_id,
    encode,
    encode_id,
    encode_new_id,
    pushed_at,
)
from alligator.common.ids import new_task_id
from alligator.exceptions import InvalidTask

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
UUIDS = st.uuids().flatmap(
    lambda each: st.sampled_from(
        [str(each), str(each).upper(), each.hex, f"{{{each}}}", f"{each} ", str(each)[:-1]]
    )
)
IDS = st.one_of(TEXT, UUIDS)


@given(IDS, IDS)
def test_each_id_has_a_form_of_its_own(one, other):
    assert decode_id(encode_new_id(one)) == one
    assert encode_id(one) == encode_new_id(one)
    assert (encode_new_id(one) == encode_new_id(other)) is (one == other)


@given(st.binary() | st.binary(min_size=16, max_size=16).map(lambda raw: b"\xff" + raw))
def test_bytes_of_a_stranger_are_found_again(raw):
    assume(len(raw) != 36)  # the text of a UUID, which no client of ours would write
    assert encode_id(decode_id(raw)) == raw


def test_text_that_is_nobodys_id():
    alias = (b"\xff" + b"\xfe" * 16).decode("utf-8", "surrogateescape")
    for each in (alias, "\ud800"):
        with pytest.raises(InvalidTask):
            encode_id(each)
    with pytest.raises(InvalidTask):
        encode_new_id("\udcff")


@given(IDS, TEXT | st.binary(), st.sampled_from([None, "", '"retries":0,"is_async":']))
def test_data_comes_back_as_it_went(task_id, data, usual):
    if usual is not None and isinstance(data, str):
        data = f'{{"task_id":"{task_id}",{usual}{data}'
    assert decode(encode(data, task_id), task_id) == data


def test_what_is_usual_is_short():
    task_id = new_task_id()
    data = f'{{"task_id":"{task_id}","retries":3}}'
    assert len(encode_new_id(task_id)) == 17
    assert len(encode(data, task_id)) == len(data) - 49
    usual = data.replace("3}", '0,"is_async":true}')
    assert encode(usual, task_id) == b"\xfdtrue}"
    assert decode(b"\xfdtrue}", task_id) == usual
    assert encode("x" + data, task_id) == b"x" + data.encode()


def test_the_age_is_read_from_ids_of_our_own_only():
    assert pushed_at(encode_new_id("0199d3c2-0000-7abc-8def-000000000000")) == 0x0199D3C20000 / 1000
    assert pushed_at(encode_new_id(str(uuid.uuid4()))) is None
    assert pushed_at(b"0199d3c2-0000-7") is None


def test_commands_are_packed_as_the_protocol_says():
    assert packed("SET", b"\xff", "\u00e9", 12) == (
        b"*4\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n"
    )
    for keys in ((b"key",), [b"key"]):
        assert packed_script(b"EVALSHA", b"sha", keys, [b"x", 1]) == packed(
            "EVALSHA", "sha", 1, "key", "x", 1
        )
