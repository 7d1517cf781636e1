"""The error of all that a user writes."""


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, what was found and the cure."""

    def __init__(self, message: str) -> None:
        # A name that is not UTF-8 is told all the same, and can be written to a log.
        super().__init__(message.encode(errors="backslashreplace").decode())
