"""Every error labkit raises on purpose. The tree says whose fault it is and what may be done next.

LabkitError
├── ConfigError                     a person must change a setting; names the field and the nearest valid name
│   ├── UnknownSymbol               a symbol the exchange does not list
│   └── UnfitCall                   a call with a misspelt, missing or superfluous value; also a TypeError
├── UnknownName                     a misspelt name of a lab or of labkit; also an AttributeError
├── AlreadyRunning                  another engine owns this account; carries its process id and start time
├── LocalProtocolError              we were about to send nonsense (our bug)
├── RemoteProtocolError             the exchange or a file said something we cannot read
│   ├── TapeError                   a recording is truncated, foreign or unreadable; carries file and line
│   ├── DataFileError               a file of history is truncated, foreign or damaged; carries the file
│   │   └── ArchiveUnreachable      nobody answers where the archives should be; try again later
│   └── MalformedControl            a client's stream control message makes no sense; carries the code to answer
├── ExchangeError(code, http_status) the exchange answered with an error
│   ├── RequestRejected             a definite no
│   │   ├── InsufficientMargin      -2019
│   │   ├── FilterViolation         -1111, -1013, -4xxx filters: the order does not fit the symbol rules
│   │   ├── ClockSkew               -1021, -5028: resynchronize time, then ask again
│   │   ├── UnknownOrder            -2011, -2013
│   │   ├── AuthenticationFailed    -1022, -2014, -2015
│   │   └── ListenKeyGone           -1125: make a new key
│   ├── RateLimited(retry_after_ms) slow down
│   │   └── IpBanned                418: silence until the ban ends
│   ├── ExchangeUnavailable         definitely not executed; safe to try again later
│   └── OutcomeUnknown              may have executed: ask, never resend
├── StaleData                       market truth lost; wait for fresh data before deciding
│   └── BookGap                     the update-id chain of an order book broke; resynchronize
├── BreakerOpen(level)              refused by ourselves: the circuit breaker does not permit this now
├── WouldExceedLimit                refused by ourselves: the plan would pass a rate limit
├── ForbiddenHost                   refused by structure: this host may not receive that request
├── LockBoxClosed                   refused by ourselves: this history is kept unseen, or was seen once already
├── LedgerError
│   ├── LedgerDamaged               the stored history is altered or shortened; carries the first bad sequence number
│   └── LedgerImbalance             two independent accounts of the money disagree: stop trading
├── NotInTime                       what was waited for did not happen in time; also a TimeoutError
└── ReportFailed                    the report notebook raised, timed out or died
"""

from __future__ import annotations

import linecache
import traceback

WHOLE_STORY = "The whole traceback: import traceback; traceback.print_last()"


class LabkitError(Exception):
    """Base of everything labkit raises on purpose. Its message says all a person needs, so a notebook shows that."""

    def _render_traceback_(self) -> list[str]:
        """The lines IPython shows instead of a traceback: the person's own line, then the message."""
        own = [
            (frame, line) for frame, line in traceback.walk_tb(self.__traceback__) if _is_of_a_person(frame.f_globals)
        ]
        where = ""
        if own:
            frame, number = own[-1]
            code = linecache.getline(frame.f_code.co_filename, number).strip()
            where = f" in line {number}: {code}" if code else f" in line {number}"
        return [f"\x1b[31m{type(self).__name__}\x1b[0m{where}", str(self), WHOLE_STORY]


def _is_of_a_person(module: dict[str, object]) -> bool:
    return module.get("__name__") == "__main__"


class ConfigError(LabkitError):
    """A setting is wrong. `field` names it; the message says what is allowed."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownSymbol(ConfigError):
    """The exchange does not list this symbol."""


class UnfitCall(ConfigError, TypeError):
    """A call does not fit: a misspelt, missing or superfluous value. The message says what to write."""


class UnknownName(LabkitError, AttributeError):
    """There is no such name. The message proposes the nearest one."""


class AlreadyRunning(LabkitError):
    """Another engine owns this account."""

    def __init__(self, message: str, *, pid: int | None = None, started_at: str = "") -> None:
        super().__init__(message)
        self.pid = pid
        self.started_at = started_at


class LocalProtocolError(LabkitError):
    """We were about to send something the exchange's protocol does not allow."""


class RemoteProtocolError(LabkitError):
    """The other side, or a file, said something that cannot be read."""


class TapeError(RemoteProtocolError):
    """A recording cannot be replayed. `path` and `line` say where."""

    def __init__(self, message: str, *, path: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class DataFileError(RemoteProtocolError):
    """A file of history cannot be used. `path` names it; the message says where in it and why."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ArchiveUnreachable(DataFileError):
    """The place archives come from gives no answer: no file of it can be had now."""


class MalformedControl(RemoteProtocolError):
    """A stream control message cannot be obeyed. `code` and the text are what `request_id` is answered with."""

    def __init__(self, message: str, *, code: int, request_id: str | float | bool | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class ExchangeError(LabkitError):
    """The exchange answered with an error body.

    Args:
        message: the exchange's own text.
        code: the exchange's error code (negative), or 0 where it sent none.
        http_status: the HTTP status of the answer.
    """

    def __init__(self, message: str, *, code: int = 0, http_status: int = 0) -> None:
        super().__init__(f"{message} (code {code}, HTTP {http_status})")
        self.text = message
        self.code = code
        self.http_status = http_status


class RequestRejected(ExchangeError):
    """A definite no: nothing happened at the exchange."""


class InsufficientMargin(RequestRejected):
    """The account cannot carry this order."""


class FilterViolation(RequestRejected):
    """Price or quantity does not fit the symbol's filters."""


class ClockSkew(RequestRejected):
    """The request's timestamp was outside the receive window."""


class UnknownOrder(RequestRejected):
    """The exchange knows no such order (any more, or yet)."""


class AuthenticationFailed(RequestRejected):
    """Key or signature is not valid."""


class ListenKeyGone(RequestRejected):
    """The user-data stream key has expired or was deleted."""


class RateLimited(ExchangeError):
    """Too many requests; nothing was executed. Be silent for `retry_after_ms`."""

    def __init__(self, message: str, *, code: int = 0, http_status: int = 0, retry_after_ms: int = 0) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after_ms = retry_after_ms


class IpBanned(RateLimited):
    """HTTP 418: the address is banned until `retry_after_ms` from now."""


class ExchangeUnavailable(ExchangeError):
    """The exchange could not handle the request; it was definitely not executed."""


class OutcomeUnknown(ExchangeError):
    """The request may have been executed. Ask with the client order id; never resend."""


class StaleData(LabkitError):
    """The market data at hand is too old to decide on."""


class BookGap(StaleData):
    """The update-id chain of an order book broke."""


class BreakerOpen(LabkitError):
    """The circuit breaker does not permit this action at its present level."""

    def __init__(self, message: str, *, level: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.level = level
        self.retry_after_ms = retry_after_ms


class WouldExceedLimit(LabkitError):
    """The plan would pass a rate limit; nothing was sent."""


class ForbiddenHost(LabkitError):
    """The host is not on the allow-list for this kind of request."""


class LockBoxClosed(LabkitError):
    """The period is kept unseen until a release is judged on it, once."""


class LedgerError(LabkitError):
    """The ledger cannot be used."""


class LedgerDamaged(LedgerError):
    """Stored history was altered or shortened. `sequence` is the first bad number."""

    def __init__(self, message: str, *, sequence: int | None = None) -> None:
        super().__init__(message)
        self.sequence = sequence


class LedgerImbalance(LedgerError):
    """Two independent accounts of the money disagree."""


class NotInTime(LabkitError, TimeoutError):
    """What was waited for did not happen in time; nothing has been undone."""


class ReportFailed(LabkitError):
    """The report notebook raised, timed out or died."""
