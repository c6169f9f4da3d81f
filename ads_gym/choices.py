"""Settings with a few named values."""

from enum import EnumType, StrEnum
from typing import Any, ClassVar

from ads_gym.errors import unknown_name


class _NamesOnly(EnumType):
    """Looks members up by text alone: others may have no truth when they are compared, as arrays have none."""

    def __call__(cls, value: Any, *arguments: Any, **keywords: Any) -> Any:
        if not arguments and not keywords and not isinstance(value, str):
            return cls._missing_(value)  # type: ignore[attr-defined]
        return super().__call__(value, *arguments, **keywords)


class Choice(StrEnum, metaclass=_NamesOnly):
    """Base class: `Scope("layer")` is an `UnknownName` that suggests "layers".

    A subclass says in messages what it is called: `class Scope(Choice, what="scope")`.
    """

    _what: ClassVar[str]

    def __init_subclass__(cls, what: str = "choice") -> None:
        cls._what = what

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise unknown_name(cls._what, value, list(cls))
