"""Records, checked functions, and the JSON that records are written to."""

import json
import pickle
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, NotFound, UnknownName
from ads_gym.records import Format, JsonObject, Number, Text, check, checked, parse_json, record

Whole = Annotated[int, Field(ge=1, le=100)]


@record
class Inner:
    numbers: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=3)]
    share: Number = 0.5


@record
class Outer:
    name: Text
    inner: Inner | None = None
    is_ready: bool = False
    more: JsonObject = Field(default_factory=dict)

    def __post_init__(self):
        if self.name == "nobody":
            raise UnknownName("nobody is unknown.")


FORM = Format("ads-gym x", 2, "thing", Outer)
GOOD = Outer("ü", Inner((1, 2)), True, {"a": [1, None, {"b": 0.5}]})


def test_a_record_is_a_frozen_dataclass():
    assert asdict(GOOD)["inner"] == {"numbers": (1, 2), "share": 0.5}
    assert [field.name for field in fields(Inner)] == ["numbers", "share"]
    assert replace(GOOD, name="x").inner == GOOD.inner
    assert pickle.loads(pickle.dumps(GOOD)) == GOOD
    with pytest.raises(AttributeError):
        GOOD.name = "x"


@pytest.mark.parametrize("numbers", [(1, 2), [1, 2], [np.int64(1), np.array(2)], (np.uint8(1), 2)])
@pytest.mark.parametrize("share", [1, 1.0, np.float32(1), np.int16(1), np.array(1.0)])
def test_numbers_of_numpy_and_lists_are_plain(numbers, share):
    inner = Inner(numbers, share)
    assert inner == Inner((1, 2), 1.0) and {type(number) for number in inner.numbers} == {int}
    assert type(inner.share) is float


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "numbers is missing"),
        ({"numbers": ()}, "numbers.* at least 1 item"),
        ({"numbers": (1, 2, 3, 4)}, "numbers.* at most 3 items"),
        ({"numbers": (1, 0)}, r"numbers\[1\] should be greater than or equal to 1, got 0"),
        ({"numbers": (10**400,)}, r"numbers\[0\] should be less than or equal to 100, got 1000"),
        ({"numbers": (True,)}, r"numbers\[0\] should be a valid integer, got True"),
        ({"numbers": (1.0,)}, r"numbers\[0\] should be a valid integer, got 1.0"),
        ({"numbers": "12"}, "numbers should be a valid tuple, got '12'"),
        ({"numbers": (1,), "share": "0.5"}, "share should be a valid number, got '0.5'"),
        ({"numbers": (1,), "share": float("nan")}, "share should be a finite number, got nan"),
        ({"numbers": (1,), "share": True}, "share should be a valid number, got True"),
        ({"numbers": (1,), "shore": 0.5}, "'shore'.* Did you mean 'share'"),
    ],
)
def test_what_breaks_an_annotation_is_told(values, says):
    with pytest.raises(InvalidValue if "Did you" not in says else UnknownName, match=says) as told:
        Inner(**values)
    assert len(str(told.value)) < 300
    if "numbers" in values and "shore" not in values:
        with pytest.raises(InvalidValue):
            replace(Inner((1,)), **values)


def test_positional_arguments_are_named():
    with pytest.raises(InvalidValue, match="share should be a valid number, got 'x'"):
        Inner((1,), "x")


def test_an_error_of_the_record_itself_stays_as_it_is():
    with pytest.raises(UnknownName, match=r"^nobody is unknown\.$"):
        Outer("nobody")
    with pytest.raises(DamagedFile, match="nobody is unknown"):
        FORM.parse('{"format": "ads-gym x", "version": 2, "name": "nobody"}', "here")


def test_json_comes_back(tmp_path):
    FORM.write(tmp_path / "x.json", GOOD)
    assert FORM.read(tmp_path / "x.json") == GOOD
    assert json.loads((tmp_path / "x.json").read_text())["more"] == {"a": [1, None, {"b": 0.5}]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "JSON"),
        (b"", "JSON"),
        (b'{"format": "ads-gym x", "version"', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"a": ' * 100_000, "JSON"),
        (b"[1]", '"format": "ads-gym x"'),
        (b'{"format": "ads-gym y", "version": 2}', '"format": "ads-gym x"'),
        (b'{"format": "ads-gym x", "version": 3}', "version 3.* upgrade"),
        (b'{"format": "ads-gym x", "version": 1}', "version 1.* older"),
        (b'{"format": "ads-gym x", "version": true}', "version True"),
        (b'{"format": "ads-gym x"}', "version None"),
    ],
)
def test_what_is_not_our_json_is_told(tmp_path, content, says):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=says) as told:
        FORM.read(path)
    assert str(told.value).startswith(f"{path} is no thing that can be used: ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('"name": 3', "name should be a valid string, got 3"),
        ('"name": "x", "is_ready": "false"', "is_ready should be a valid boolean, got 'false'"),
        ('"name": "x", "is_ready": 1', "is_ready should be a valid boolean, got 1"),
        ('"name": "x", "inner": {"numbers": ["1"]}', r"inner\.numbers\[0\] should be a valid integer, got '1'"),
        ('"name": "x", "inner": {"numbers": [1], "share": NaN}', "JSON"),
        ('"name": "x", "inner": {"numbers": [1], "share": 1e999}', r"inner\.share should be a finite number"),
        ('"name": "x", "inner": []', "inner should be an object"),
        ('"name": "x", "more": {"a": 1e999}', "more should be an object of numbers"),
        ('"name": "x", "more": {"a": ' + "9" * 30 + "}", "more should be an object of numbers"),
        ('"name": "x", "more": ' + '{"a": ' * 150 + "1" + "}" * 150, "more|JSON"),
        (f'"name": "{"x" * 5000}"', "name: string should have at most 4096 characters"),
        ('"name": "x", "nmae": 1', "nmae"),
        ('"name": null', "name should be a valid string, got None"),
    ],
)
def test_json_of_other_types_or_sizes_is_told(change, says):
    text = f'{{"format": "ads-gym x", "version": 2, {change}}}'
    try:
        read = FORM.parse(text, "here")
    except DamagedFile as error:
        assert re.search(says, str(error))
        assert str(error).startswith("here is no thing") and len(str(error)) < 500
    else:
        assert "more|" in says and FORM.parse(FORM.text(read), "here") == read  # deep, and within the depth


NAN = float("nan")


@pytest.mark.parametrize("value", [NAN, float("inf"), object(), {1, 2}, 2**70, "x" * 200_000, [[NAN]]])
def test_what_json_cannot_hold_is_no_part_of_a_record(value):
    with pytest.raises(InvalidValue, match="more should be an object of numbers, texts, lists and objects"):
        Outer("x", more={"a": value})


def test_a_file_larger_than_any_record_is_not_parsed(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_bytes(b" " * (2**22 + 1))
    monkeypatch.setattr("ads_gym.records.parse_json", lambda content: pytest.fail("parsed"))
    with pytest.raises(DamagedFile, match="4,194,305 bytes"):
        FORM.read(tmp_path / "x.json")
    with pytest.raises(NotFound, match="there is no thing"):
        FORM.read(tmp_path / "y.json")


@checked
def add(first: Whole, second: Whole = 2, *, path: str | Path = "x", what: Number | None = None) -> int:
    """Add."""
    if second == 99:
        raise KeyError(second)
    return first + second


def test_arguments_are_checked():
    assert add(1) == 3 and add(np.int64(1), second=np.array(3)) == 4 and add.__doc__ == "Add."
    for arguments, keywords, says in (
        ((0,), {}, "first should be greater than or equal to 1, got 0"),
        ((1, "2"), {}, "second should be a valid integer, got '2'"),
        ((1,), {"path": 3}, "path should be a valid string or an instance of Path, got 3"),
        ((1,), {"pth": "x"}, "Did you mean 'path'"),
        ((1,), {"what": "x"}, "what should be a valid number, got 'x'"),
        ((), {}, "first is missing"),
    ):
        with pytest.raises(AdsGymError, match=says):
            add(*arguments, **keywords)
    with pytest.raises(KeyError):
        add(1, 99)


def test_one_value_is_checked():
    assert check(np.float32(1), Number, "x") == 1.0
    with pytest.raises(InvalidValue, match=r"^x should be a finite number, got inf\.$"):
        check(float("inf"), Number, "x")
    with pytest.raises(DamagedFile, match="JSON"):
        parse_json("[1,")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    large = Outer("x", more={str(index): "x" * 4_000 for index in range(2_000)})
    with pytest.raises(InvalidValue, match="more than is read again"):
        FORM.write(tmp_path / "x.json", large)
    assert not (tmp_path / "x.json").exists()
