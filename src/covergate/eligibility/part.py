"""The base of everything that a result is made of.

A result is made of hundreds of parts, and nobody but the translators makes them, from values that they have read with care. So a
part takes its values as they are: mypy holds the translators to the types, and the tests look at every answer of the corpus.
What comes from outside (a stored result, the phrase book) is checked by `model_validate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

_set = object.__setattr__


class ResultPart(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )

    not_stated: ClassVar[dict[str, Any]] = {}
    """Each field, in the order in which it is written, with its value if none is stated. Nobody changes a list of a part."""

    required: ClassVar[tuple[str, ...]] = ()
    fields: ClassVar[set[str]] = set()
    """Pydantic wants to know which ones were set: nobody asks, so all of them."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.not_stated = {
            name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()
        }
        cls.fields = set(cls.not_stated)
        cls.required = tuple(name for name, field in cls.model_fields.items() if field.is_required())

    if not TYPE_CHECKING:

        def __init__(self, /, **stated: Any) -> None:
            values = self.not_stated | stated
            if len(values) > len(self.not_stated):
                raise TypeError(f"{type(self).__name__} has no {', '.join(stated.keys() - self.not_stated.keys())}")
            for name in self.required:
                if name not in stated:
                    raise TypeError(f"{type(self).__name__} needs {name}")
            _set(self, "__dict__", values)
            _set(self, "__pydantic_fields_set__", self.fields)
            _set(self, "__pydantic_extra__", None)
            _set(self, "__pydantic_private__", None)

        # Says that validation does not come by here (pydantic's own `__init__` says so too).
        __init__.__pydantic_base_init__ = True

        def model_copy(self, *, update: dict[str, Any]) -> Self:
            """With these values, as they are; a part has nothing else that could be copied."""
            copied = object.__new__(type(self))
            _set(copied, "__dict__", self.__dict__ | update)
            _set(copied, "__pydantic_fields_set__", self.fields)
            _set(copied, "__pydantic_extra__", None)
            _set(copied, "__pydantic_private__", None)
            return copied
