"""Logs are configured for a whole process, so each test is one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

NAME = "Jane Sample"


def test_an_exception_is_logged_without_its_text() -> None:
    (line,) = _logged(
        """
        try:
            try:
                int(NAME)
            except ValueError as error:
                raise KeyError(NAME) from error
        except KeyError as error:
            structlog.get_logger().error("failed", key="ver_1", exc_info=error)
        """
    )
    assert (line["event"], line["level"], line["key"], line["error"]) == ("failed", "error", "ver_1", "KeyError")
    assert "caused by builtins.ValueError" in line["exception"]


def test_libraries_records_are_lines_like_ours_without_texts_of_exceptions_and_the_noisy_are_quiet() -> None:
    lines = _logged(
        """
        for name in ("httpx", "uvicorn.access", "sqlalchemy"):
            logging.getLogger(name).info(f"GET /?name={NAME}" if name in ("httpx", "uvicorn.access") else "said")
        try:
            int(NAME)
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
        """
    )
    assert [line["event"] for line in lines] == ["said", "Exception in ASGI application"]
    assert lines[1]["error"] == "ValueError"


def test_a_task_that_nobody_waited_for_is_logged_without_the_text_of_its_exception() -> None:
    (line,) = _logged(
        """
        async def main():
            asyncio.get_running_loop().set_exception_handler(logs.loop_failure)
            async def fail():
                raise ValueError(NAME)
            task = asyncio.create_task(fail())
            await asyncio.wait([task])
            del task
            gc.collect()
        asyncio.run(main())
        """
    )
    assert (line["event"], line["error"]) == ("loop_failure", "ValueError")


def test_the_level_holds_for_ours_and_theirs() -> None:
    lines = _logged(
        """
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").info("theirs")
        structlog.get_logger().warning("kept")
        """,
        level="warning",
    )
    assert [line["event"] for line in lines] == ["kept"]


def _logged(code: str, level: str = "info") -> list[dict[str, Any]]:
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    program = "\n".join(
        [
            "import asyncio, gc, logging, structlog, sys",
            "from covergate import logs",
            "NAME = sys.argv[1]",  # a literal would be shown with its line of code: by Python 3.13 of -c too
            f"logs.configure('json', '{level}')",
            *(line[indent:] for line in lines),
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program, NAME], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert NAME not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    script = """
import logging, structlog
from covergate import logs
logs.configure("json", "info")
structlog.get_logger().info("said")
logging.getLogger("httpcore").warning("said")
print("went on")
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False
        )
    assert done.stdout == "went on\n"


def test_a_stderr_that_is_not_read_stops_no_work_and_what_is_lost_is_counted() -> None:
    script = """
import sys, structlog
from covergate import logs
logs.configure("json", "info")
log = structlog.get_logger()
for number in range(30_000):
    log.info("said", number=number)
print("went on", flush=True)
sys.stdin.readline()
logs.drain()
log.info("after")
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        timer = threading.Timer(60, process.kill)
        timer.start()
        assert process.stdout.readline() == "went on\n"
        process.stdin.write("\n")
        process.stdin.flush()
        lines = [json.loads(line) for line in process.stderr]
        assert process.wait(60) == 0
        timer.cancel()
    said = [line["number"] for line in lines if line["event"] == "said"]
    (lost,) = [line for line in lines if line["event"] == "log_lines_lost"]
    assert said == list(range(len(said)))
    assert len(said) + lost["lines"] == 30_000
    assert lines[-1]["event"] == "after"


def test_lines_that_come_one_soon_after_the_other_are_written_together() -> None:
    script = """
import time, structlog
from covergate import logs
logs.configure("json", "info")
writes = []
logs._write = writes.append
for number in range(100):
    structlog.get_logger().info("said", number=number)
    time.sleep(0)
logs.drain()
print(sum(data.count(b"said") for data in writes), len(writes) < 50)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.stdout == "100 True\n"


def test_a_process_whose_stderr_is_stuck_still_ends() -> None:
    script = """
import structlog
from covergate import logs
logs.configure("json", "info")
for number in range(5_000):
    structlog.get_logger().info("said", number=number)
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        assert process.wait(60) == 0
