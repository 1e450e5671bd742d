"""A program that is watched from outside: when it ends and how, how much memory it has, and how to kill it."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    code: int | None
    """The exit code; None if it had to be killed because it came to no end."""
    peak_mib: int
    """The most memory that it had at a time."""


RUNNING: "set[Process]" = set()
"""Who would go on if this program were interrupted."""


def end_all(number: int, _: object) -> None:
    """A handler of signals: nobody goes on alone."""
    for process in list(RUNNING):
        os.killpg(process.child.pid, signal.SIGKILL)
    os._exit(128 + number)


class Process:
    """A program in a session of its own, so that it can be killed with whatever it started."""

    def __init__(self, command: list[str], folder: Path, out: Path) -> None:
        self.began = time.monotonic()
        self.peak_kib = 0
        with open(out, "ab") as file:
            self.child = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        RUNNING.add(self)

    def ended(self) -> Run | None:
        # Not ru_maxrss: that begins with what the process had that started it.
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        if peak := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            self.peak_kib = int(peak[1])
        if (code := self.child.poll()) is None:
            return None
        RUNNING.discard(self)
        return Run(code, self.peak_kib // 1024)

    def kill(self) -> Run:
        os.killpg(self.child.pid, signal.SIGKILL)
        while not (run := self.ended()):
            time.sleep(0.02)
        return run

    def wait(self, seconds: float) -> Run:
        """Until it ends by itself; if that takes longer, it is killed and has no exit code."""
        while not (run := self.ended()):
            if time.monotonic() - self.began > seconds:
                run = self.kill()
                run.code = None
                break
            time.sleep(0.02)
        return run
