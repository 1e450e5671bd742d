"""What the faults have in common: the API that works, one tool before it, and how rows are judged."""

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from process import Process, Run
from server import Answer, Request, Script, Server, page
from tools import Case, Tool

PAGE = 10
"""Records on a page, unless it is said otherwise."""
LIMIT_SECONDS = 120
"""Who takes longer for a run comes to no end."""


@dataclass
class Outcome:
    mark: str
    """A word of the legend."""
    text: str
    part: str = ""


@dataclass
class Bench:
    """One tool before one fault, with a folder and a name at the server that nothing else has."""

    server: Server
    tool: Tool
    folder: Path
    parts: int = 0
    name: str = ""
    place: Path = Path()

    def begin(self, script: Script, **case: Any) -> Case:
        """A new copy, of what `script` serves."""
        self.parts += 1
        self.place = self.folder / str(self.parts)
        self.place.mkdir(parents=True)
        self.name = f"{self.folder.parent.name}-{self.folder.name}-{self.parts}"
        self.server.scripts[self.name] = script
        return Case(self.server.url(self.name), **case)

    def start(self, case: Case) -> Process:
        return self.tool.start(case, self.place)

    def run(self, case: Case, seconds: float = LIMIT_SECONDS) -> Run:
        run = self.start(case).wait(seconds)
        self.tool.settle(self.place)
        return run

    def rows(self) -> list[dict[str, Any]]:
        return self.tool.rows(self.place)

    def asked(self) -> list[Request]:
        return self.server.asked(self.name)


def records(count: int, per_day: int = 5) -> list[dict[str, Any]]:
    """Oldest first; each has an instant of its own."""
    rnd = random.Random(20261123)
    return [
        {
            "id": n,
            "name": f"{rnd.choice(['kettle', 'teapot', 'cup'])} {rnd.randrange(10**9)}",
            "updated_at": instant(n // per_day, n % per_day),
        }
        for n in range(1, count + 1)
    ]


def instant(day: int, second: int) -> str:
    """Of the days since 2024 began."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1704067200 + 86400 * day + second))


def listing(held: list[dict[str, Any]], order: str = "asc", size: int = PAGE) -> Script:
    """An API that filters by `since` and `until`, sorts, and has a token for the next page."""

    def answer(request: Request) -> Answer:
        since, until = request.params.get("since", ""), request.params.get("until", "~")
        found = sorted((one for one in held if since <= one["updated_at"] <= until), key=lambda one: one["updated_at"])
        if order == "desc":
            found.reverse()
        at = int(request.params.get("cursor", "page-0").removeprefix("page-")) * size
        return page(found[at : at + size], next_cursor=f"page-{at // size + 1}" if at + size < len(found) else None)

    return answer


def but(script: Script, cursor: str, fault: Callable[[Answer], Answer], times: float = math.inf) -> Script:
    """The page at this token is not what it should be, the first so many times."""
    left = times

    def answer(request: Request) -> Answer:
        nonlocal left
        good = script(request)
        if request.params.get("cursor") != cursor or left <= 0:
            return good
        left -= 1
        return fault(good)

    return answer


def balance(rows: list[dict[str, Any]], held: list[dict[str, Any]]) -> tuple[int, int]:
    """How many of the records are not there, and how many rows are too many or not as they should be."""
    there = Counter((row["id"], row["name"]) for row in rows)
    due = Counter((one["id"], one["name"]) for one in held)
    return (due - there).total(), (there - due).total()


def books(missing: int, extra: int) -> str:
    words = [f"{missing} lost"] * (missing > 0) + [f"{extra} doubled"] * (extra > 0)
    return " and ".join(words) or "nothing lost or doubled"


def verdict(run: Run, missing: int, extra: int) -> str:
    """Whether everything is there once and, if not, whether it says so."""
    if run.code != 0:
        return "endless" if run.code is None else "loud"
    return "silent" if missing else "doubled" if extra else "right"


def ending(run: Run) -> str:
    return "never ends" if run.code is None else f"exit {run.code}"
