"""Errors by whose matter they are: the caller's, the model's, the world's, ours. Each says what, with which value, and what to do."""

from typing import Any


class CloisterError(Exception):
    """Base of every error that we raise on purpose. `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whole, keyword-only arguments too: errors travel between processes."""
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.hint}".strip()


def _rebuild(kind: type[CloisterError], args: tuple[Any, ...], fields: dict[str, Any]) -> CloisterError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class CallerError(CloisterError):
    """The caller asked for something that cannot be had as asked."""


class NotFound(CallerError):
    """No such record."""


class Conflict(CallerError):
    """The record's state, or an earlier request with the same key, does not allow it."""


class BadInput(CallerError):
    """A file or a field is not what it must be. The message names the place."""


class Forbidden(CallerError):
    """The role of the key does not allow it."""


class Busy(CallerError):
    """Too much is waiting already; `retry_after_s` says when to come again."""

    def __init__(self, message: str, *, retry_after_s: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ModelUnavailable(CloisterError):
    """The engine is down or not ready: the head alone triages, or the work waits."""


class AdapterMissing(ModelUnavailable):
    """The named adapter is not served. Never answered by the base model instead."""


class WorldUnavailable(CloisterError):
    """A system of record could not be reached: the job is tried again later."""


class StoreUnavailable(CloisterError):
    """The database is away, restarting, or asked us to try again. Nothing was written; `Store.run` tries again by itself."""


class FencedOut(CloisterError):
    """The lease of this job went to another worker; whatever we were about to write is dropped."""


class ConfigurationError(CloisterError):
    """Settings, runbooks, catalogue or policies contradict themselves. Lists every problem found."""
