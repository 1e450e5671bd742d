"""A server on loopback that does exactly what a script says, byte by byte, and notes every request.

It has two ports: `home`, where the API is, and `elsewhere`, another origin that must not be sent the API's key.
"""

import asyncio
import email.utils
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

REQUEST_BYTES_MAX = 64 * 1024


@dataclass
class Request:
    at: float
    """When it came, in seconds since 1970."""
    origin: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    answered: bool = False
    """Whether all of the answer was handed to the socket."""


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What Content-Length says, if that is not the truth."""
    reset_after: int | None = None
    """After so many bytes of the body the connection is reset."""
    wait_for: threading.Event | None = None
    """Nothing is sent before this has happened."""


Script = Callable[[Request], Answer]


def page(records: list, **more) -> Answer:
    """A page of JSON: `data`, and what else there is in the envelope."""
    return Answer(json.dumps({"data": records, **more}).encode())


class Server:
    """Runs in a thread of its own. What it is asked below `/NAME/` is answered by the script of that name."""

    def __init__(self) -> None:
        self.log: list[Request] = []
        self.scripts: dict[str, Script] = {}
        self.ports: dict[str, int] = {}
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=[ready], daemon=True).start()
        if not ready.wait(10):
            raise RuntimeError("the fault server does not start")

    def url(self, name: str, origin: str = "home") -> str:
        return f"http://127.0.0.1:{self.ports[origin]}/{name}/"

    def asked(self, name: str) -> list[Request]:
        """The requests of one script so far, oldest first."""
        return [request for request in self.log if request.path.split("/")[1] == name]

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        for origin in ["home", "elsewhere"]:
            serve = asyncio.start_server(
                lambda reader, writer, origin=origin: self._connection(origin, reader, writer), "127.0.0.1", 0
            )
            self.ports[origin] = self.loop.run_until_complete(serve).sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    async def _connection(self, origin: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(origin, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The other side went away, which is its right.
        finally:
            writer.close()

    async def _request(self, origin: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request with its answer. False when the connection is at its end."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:REQUEST_BYTES_MAX].decode("latin-1").split("\r\n")
        url = urlsplit(first.split(" ")[1])
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }
        params = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        request = Request(time.time(), origin, url.path, params, headers)
        self.log.append(request)
        script = self.scripts.get(url.path.split("/")[1])
        answer = script(request) if script else Answer(status=404)
        if answer.wait_for:
            await asyncio.to_thread(answer.wait_for.wait, 120)

        length = len(answer.body) if answer.length is None else answer.length
        said = {
            "Content-Type": "application/json",
            "Date": email.utils.formatdate(usegmt=True),
            "Content-Length": str(length),
        } | answer.headers
        head_out = (
            f"HTTP/1.1 {answer.status} Scripted\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in said.items())
            + "\r\n"
        )
        body = answer.body[:length] if answer.reset_after is None else answer.body[: answer.reset_after]
        writer.write(head_out.encode() + body)
        await writer.drain()
        if answer.reset_after is not None:
            # Linger of zero seconds: closing sends RST, not FIN. First the bytes have to be on their way.
            await asyncio.sleep(0.2)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        request.answered = True
        return headers.get("connection") != "close"
