"""Many partners' endpoints on one port: `POST /<name>` is answered at once, but for the one that hangs.

`GET /hang/<name>` makes that one hang; `GET /answer` lets it answer again, what hangs included; `GET /arrived` tells what came
to whom, [name, when it was announced, when it came], and forgets it.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson


class Partners:
    def __init__(self) -> None:
        self._arrived: list[tuple[str, float, float]] = []
        self._hanging: str | None = None
        self._answers = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next((int(line[15:]) for line in head if line.startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                content = await self._answer(head[0].split(" ")[1][1:], body)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> bytes:
        now = time.time()
        if path == "arrived":
            told, self._arrived = self._arrived, []
            return orjson.dumps(told)
        if path == "answer":
            self._hanging = None
            self._answers.set()
        elif path.startswith("hang/"):
            self._hanging = path.removeprefix("hang/")
            self._answers.clear()
        elif path == self._hanging:
            await self._answers.wait()
        else:
            self._arrived.append((path, orjson.loads(body)["data"]["announced"], now))
        return b""


async def main() -> None:
    server = await asyncio.start_server(Partners().serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
