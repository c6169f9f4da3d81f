"""Records: what a file says or a caller gives is checked against the types that are written down, or refused.

    @record
    class Recipe:
        epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 40

is a frozen dataclass, and no `Recipe` exists that breaks its annotations, whether Python made it, `replace` did, or a
file. `checked` does the same for the arguments of a function, and a `Format` reads and writes records as JSON. pydantic
checks, strictly: no "3" for 3, no 1 for true, no NaN.
"""

import dataclasses
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, cast, dataclass_transform

import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, validate_call
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import PydanticCustomError, PydanticSerializationError, from_json

from ads_gym import files, limits
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue, shown, unknown_name

Record = TypeVar("Record")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Text = Annotated[str, Field(max_length=limits.MAX_TEXT)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]  # in hex
Name = Annotated[str, Field(min_length=1, max_length=limits.MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]  # is shown
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=limits.MAX_SEED)]
Seconds = Annotated[float, Field(gt=0, le=limits.MAX_SECONDS)]  # of a time limit
Count = Annotated[int, Field(ge=0, lt=2**63)]
Pixels = Annotated[int, Field(ge=1, le=limits.MAX_PIXELS)]  # of one side of an image
Masks = Annotated[int, Field(ge=1, le=limits.MAX_MASKS)]  # how many at once
TimedBatch = Annotated[int, Field(ge=1, le=limits.MAX_BATCH_TIMED)]  # images
Environments = Annotated[int, Field(ge=1, le=limits.MAX_ENVIRONMENTS)]  # of one vector environment


def _json(value: object, levels: int = limits.MAX_NESTING) -> Any:
    """A copy of a value that JSON can hold within the limits; `ValueError` for any other.

    (As a recursive union of pydantic's, 24 KB of nested lists took 1 GB of errors.)
    """
    match value:
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**64:
            return value
        case float() if math.isfinite(value):
            return value
        case str() if len(value) <= limits.MAX_OPTION:
            value.encode()  # a `ValueError` where it is no text
            return value
        case dict() if levels and len(value) <= limits.MAX_ENTRIES and all(isinstance(key, str) for key in value):
            return {_json(key): _json(item, levels - 1) for key, item in value.items()}
        case list() | tuple() if levels and len(value) <= limits.MAX_ENTRIES:
            return type(value)([_json(item, levels - 1) for item in value])
    raise ValueError(value)


_JSON_OBJECT = (
    "Input should be an object of numbers, texts, lists and objects "
    f"(texts of up to {limits.MAX_OPTION:,} characters, lists of up to {limits.MAX_ENTRIES:,} entries)"
)


def _json_object(value: object) -> Any:
    try:
        if isinstance(value, dict):
            return _json(value)
    except (ValueError, TypeError):  # TypeError: a tuple of a class of its own
        pass
    raise PydanticCustomError("json", _JSON_OBJECT)


JsonObject = Annotated[Mapping[str, Any], PlainValidator(_json_object)]

_CONFIG = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
_MAX_FAULTS = 3  # that one message names
_MAX_DEPTH = 16  # of lists that a caller gives


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def record(cls: type[Record]) -> type[Record]:
    """Make a class a frozen dataclass whose fields are checked against their annotations.

    Numpy numbers and 0-d arrays count as Python's, lists as tuples. `__post_init__` checks what no annotation can say.
    An error is an `InvalidValue` that says which field, what it should be, and what was got.
    """
    made: Any = pydantic_dataclass(frozen=True, config=_CONFIG)(cls)
    fill, names = made.__init__, [field.name for field in dataclasses.fields(made)]

    @functools.wraps(fill)
    def __init__(self: object, *values: object, **named: object) -> None:  # noqa: N807
        try:
            fill(self, *map(plain, values), **{name: plain(value) for name, value in named.items()})
        except ValidationError as error:
            raise _as_error(error, cls.__name__, names) from error

    made.__init__ = __init__
    return cast(type[Record], made)


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have the arguments of a function checked against its annotations, as the fields of a `record` are.

    A class that is no record is asked for by `InstanceOf[...]` where it is a plain dataclass.
    """
    call: Any = validate_call(config=_CONFIG)(function)
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def check(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return call(*map(plain, values), **{name: plain(value) for name, value in named.items()})  # type: ignore[no-any-return]
        except ValidationError as error:
            raise _as_error(error, name, names) from error

    return check


def check(value: object, kind: Any, name: str) -> Any:
    """Return one value, if it is of an annotated type.

    Args:
        value: of any type.
        kind: such as `Annotated[int, Field(ge=1)]`.
        name: of the value, for messages.

    Raises:
        InvalidValue: it is not.
    """
    try:
        return _adapter(kind).validate_python(plain(value))
    except ValidationError as error:
        raise InvalidValue(_told(error, name)) from error


def plain(value: object, depth: int = 0) -> object:
    """A number or 0-d array of numpy as Python's, a list or range as a tuple of such values; anything else as it is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
        return value.item()
    if type(value) in (list, tuple, range) and depth < _MAX_DEPTH:
        return tuple(plain(item, depth + 1) for item in cast(Sequence[object], value))
    return value


@dataclasses.dataclass(frozen=True)
class Format(Generic[Record]):
    """A kind of JSON file: an object with "format", "version" and the fields of a record.

    Args:
        name: the value of "format".
        version: of the fields.
        what: is in such a file, for messages: "task", "architecture".
        record: the type of what is read and written.
    """

    name: str
    version: int
    what: str
    record: type[Record]

    def read(self, path: Path) -> Record:
        """Return the record in a file.

        Raises:
            NotFound, StorageError: no such file, or one that may not be read.
            DamagedFile: anything else than such a record; all three name the file.
        """
        return self.parse(files.read_bytes(path, self.what, limits.MAX_JSON_BYTES), path)

    def parse(self, content: bytes | str, source: Path | str) -> Record:
        """Return the record in a text.

        Args:
            content: JSON.
            source: where it is from, for messages.

        Raises:
            DamagedFile: anything else than such a record.
        """
        with files.naming(source, self.what):
            values = parse_json(content)
            _check_lengths(values)
            if not isinstance(values, dict) or values.pop("format", None) != self.name:
                raise DamagedFile(f'it lacks "format": "{self.name}".')
            if (got := values.pop("version", None)) != self.version or isinstance(got, bool):
                older = isinstance(got, int) and got < self.version
                advice = "it was written by an older ads-gym: make it anew" if older else "upgrade ads-gym"
                raise DamagedFile(
                    f"it has format version {shown(got)}, and this ads-gym reads {self.version}: {advice}."
                )
            try:
                return cast(Record, _adapter(self.record).validate_json(json.dumps(values)))
            except ValidationError as error:
                raise DamagedFile(_told(error, "it")) from error

    def text(self, value: Record, indent: int | None = 1) -> str:
        """Return a record as JSON, from which `parse` makes it again.

        Raises:
            InvalidValue: values that JSON cannot hold, or more than would be read again.
        """
        values = {"format": self.name, "version": self.version} | to_values(value)
        text = json.dumps(values, indent=indent, allow_nan=False)
        if len(text) >= limits.MAX_JSON_BYTES:
            raise InvalidValue(f"this {self.what} would have {len(text):,} bytes, which is more than is read again.")
        return text

    def write(self, path: Path, value: Record) -> None:
        """Write a record to a file, whole or not at all.

        Raises:
            StorageError: no space, no permission.
        """
        files.write_file(path, self.text(value) + "\n")


def to_values(value: Any) -> dict[str, Any]:
    """The fields of a record as JSON holds them.

    Raises:
        InvalidValue: a value in it that JSON cannot hold.
    """
    try:
        return cast(dict[str, Any], _adapter(type(value)).dump_python(value, mode="json", warnings="error"))
    except PydanticSerializationError as error:
        raise InvalidValue(f"this cannot be stored as JSON: {error}") from error


def parse_json(content: bytes | str) -> Any:
    """What a JSON text says; NaN, infinities, and more than some 200 levels of nesting are refused.

    Raises:
        DamagedFile: no such JSON.
    """
    if not isinstance(content, str | bytes):
        raise InvalidValue(f"JSON is text or bytes, got {shown(content)}.")
    if len(content) > limits.MAX_JSON_BYTES:
        raise DamagedFile(f"it is no JSON that is read: it has more than {limits.MAX_JSON_BYTES:,} characters.")
    try:
        as_bytes = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        return from_json(as_bytes, allow_inf_nan=False)
    except ValueError as error:
        raise DamagedFile(f"it is not JSON ({error}).") from error


def _check_lengths(value: Any) -> None:
    """Check lists and objects before their items are: an error for each of a million items takes gigabytes.

    (Lists of records say `FailFast()`, so that one error is enough.)

    Raises:
        DamagedFile: more entries in one of them than any record has.
    """
    if isinstance(value, dict | list):
        if len(value) > limits.MAX_ENTRIES:
            raise DamagedFile(f"it has a list of {len(value):,} entries, and {limits.MAX_ENTRIES:,} are the most.")
        for item in value.values() if isinstance(value, dict) else value:
            _check_lengths(item)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _made_adapter(kind)


@functools.lru_cache(maxsize=512)
def _made_adapter(kind: Any) -> TypeAdapter[Any]:
    is_record = dataclasses.is_dataclass(kind)  # which has a config of its own
    return TypeAdapter(kind) if is_record else TypeAdapter(kind, config=_CONFIG)


def _as_error(error: ValidationError, what: str, names: list[str]) -> AdsGymError:
    """Ours, if that is what a check of the record itself raised; else a sentence about the first fields at fault."""
    first = error.errors()[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, AdsGymError):
        return raised
    if first["type"] == "unexpected_keyword_argument":
        return unknown_name(f"keyword of {what}:", first["loc"][-1], [name for name in names if name != "self"])
    return InvalidValue(_told(error, what, names))


def _told(error: ValidationError, what: str, names: Sequence[str] = ()) -> str:
    """Fields, what they should be, what was got: a sentence."""
    found = error.errors(include_url=False)
    faults = [fault for fault in found if fault["type"] != "too_short"] or found  # faulty items do not count as items
    by_field: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for fault in faults:
        where, told = _where(fault["loc"], what, names), fault["msg"]
        if isinstance(raised := fault.get("ctx", {}).get("error"), Exception):
            told = str(raised).removesuffix(".")  # which says where by itself
        elif fault["type"].startswith("missing"):
            told = f"{where} is missing"
        elif told.startswith("Input "):
            told, got[where] = told.replace("Input", where, 1), shown(fault["input"])
        else:
            told = f"{where}: {told[0].lower()}{told[1:]}"
        by_field.setdefault(where, []).append(told)
    sentences = [
        " or ".join([told[0], *(other.replace(f"{where} should be ", "", 1) for other in dict.fromkeys(told[1:]))])
        + (f", got {got[where]}" if where in got else "")
        for where, told in list(by_field.items())[:_MAX_FAULTS]
    ]
    more = len(by_field) - len(sentences)
    return "; ".join(sentences) + (f"; and {more} more" if more > 0 else "") + "."


def _where(place: tuple[int | str, ...], what: str, names: Sequence[str]) -> str:
    """The path of a field: "config.blocks[0]"; branches of a union are left out, a positional argument has its name."""
    told = ""
    for index, part in enumerate(place):
        if not index and isinstance(part, int) and part < len(names):
            told = names[part]
        elif isinstance(part, int):
            told += f"{'' if told else what}[{part}]"
        elif part.isidentifier() and part not in _BRANCHES:
            told += f".{part}" if told else part
    return told[:200] or what


# Of unions, in pydantic's places.
_BRANCHES = {"str", "int", "float", "bool", "none", "tuple", "list", "dict", "callable"}
