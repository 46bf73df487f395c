"""Logging of every process: one line per event on stderr, JSON or for a terminal; stdout stays free for answers.

Invariants: no PHI: events are fixed names with ids and numbers, and an exception is shown by its type and the lines of
code it passed, never by its text, which may quote a value. Other libraries' records come through the same two gates.
Logging never blocks: a thread of its own writes, and lines that it cannot write in time are lost and counted.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

QUIET: dict[str, int] = {
    "aiohttp.access": logging.CRITICAL,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
}
"""Libraries that say too much, or (httpx and access logs) addresses with query strings."""

STDERR = 2
MOST_WAITING = 10_000
"""Lines that wait to be written; more are lost."""
MOST_AT_ONCE = 1000
TOGETHER_SECONDS = 0.02
LAST_LINES_SECONDS = 2.0

log = structlog.get_logger(__name__)


def configure(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """For the rest of the process; `auto` is console on a terminal, else JSON."""
    _stderr.start()
    on_terminal = sys.stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    marks: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        _lines_of_code,
    ]
    render: Processor = _as_json if as_json else structlog.dev.ConsoleRenderer(colors=on_terminal)
    structlog.configure(
        processors=[*marks, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _stderr)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*marks[:-1], structlog.stdlib.ExtraAdder(["request_id"])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _lines_of_code, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name, least in QUIET.items():
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(least, threshold))
    logging.captureWarnings(True)


class _Stderr:
    """stderr behind a thread and a bounded queue: a full disk, a closed pipe or one that is not read costs log lines, never
    work.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked process has no threads but the one that forked."""
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._lost = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
            self._thread.start()
            atexit.register(self.drain)

    def write(self, line: str) -> None:
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(line)
        else:
            self._lost += 1

    def flush(self) -> None:
        """As a file has it; `drain` waits."""

    def drain(self, seconds: float = LAST_LINES_SECONDS) -> None:
        if self._thread is not None:
            written = threading.Event()
            self._waiting.put(written)
            written.wait(seconds)

    def _write_all(self) -> None:
        while True:
            # Together, because to wake this thread for each costs those who log as much as to make the line, and each time
            # that it comes back from the system it may wait 5 ms for its turn.
            lines = [self._waiting.get()]
            time.sleep(TOGETHER_SECONDS)
            with suppress(queue.Empty):
                while len(lines) < MOST_AT_ONCE:
                    lines.append(self._waiting.get_nowait())
            _write("".join(line for line in lines if isinstance(line, str)).encode(errors="replace"))
            for line in lines:
                if isinstance(line, threading.Event):
                    line.set()
            if (lost := self._lost) and self._waiting.qsize() < MOST_WAITING // 2:
                self._lost -= lost
                log.error("log_lines_lost", lines=lost)


def _write(data: bytes) -> None:
    """Past `sys.stderr`, whose lock a thread that is stuck would hold while the process ends."""
    while data:
        try:
            data = data[os.write(STDERR, data) :]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return


_stderr = _Stderr()


def drain() -> None:
    """Waits until what was logged is written, for 2 s at most: before `os._exit`, which runs nothing else."""
    _stderr.drain()


def loop_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own would print the exception's text."""
    error = context.get("exception")
    log.error(
        "loop_failure", about=context.get("message"), exc_info=error if isinstance(error, BaseException) else None
    )


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _lines_of_code(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        event["error"] = event.get("error") or type(error).__name__
        event["exception"] = "".join(_trace(error)).rstrip()
    return event


def _exception(given: ExcInfo | BaseException | bool | None) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1]
    return sys.exc_info()[1] if given else None


def _trace(error: BaseException) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    open_ends: list[tuple[str, BaseException]] = [("", error)]
    while open_ends:
        role, one = open_ends.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        lines += [f"{role}{type(one).__module__}.{type(one).__qualname__}\n", *traceback.format_tb(one.__traceback__)]
        if one.__cause__ is not None:
            open_ends.append(("caused by ", one.__cause__))
        elif one.__context__ is not None and not one.__suppress_context__:
            open_ends.append(("while handling ", one.__context__))
        if isinstance(one, BaseExceptionGroup):
            open_ends += [("with ", part) for part in one.exceptions]
    return lines
