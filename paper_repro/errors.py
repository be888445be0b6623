"""The one exception that means "what you asked for is wrong"; its message is one line."""

from __future__ import annotations

from pydantic import ValidationError


class ConfigError(ValueError):
    """A sweep file, configuration or argument is wrong.

    The message is one line naming the place (file and key) and what was expected. Commands print
    it to stderr and exit with code 2.
    """


def explain(error: ValidationError) -> str:
    """The first problem of a pydantic error as `key.path: what is wrong (got value)`."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    quotes = ", a text in quotes" if type(first["input"]) in (int, float, bool) else ""
    advice = quotes if first["type"] == "string_type" else ""
    return f"{key}: {message}{advice} (got {first['input']!r})"
