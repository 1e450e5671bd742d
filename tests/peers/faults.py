"""The ten faults: what is served, and what is to be said of a tool from what it has stored, sent and said.

Each is a function of a `Bench` that returns outcomes, one for each part of the fault.
"""

import email.utils
import json
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from bench import LIMIT_SECONDS, PAGE, Bench, Outcome, balance, books, but, ending, instant, listing, records, verdict
from server import Answer, Request, Script, page
from tools import KEY

LOOP_SECONDS = 15
"""A loop goes on for so long before it is called endless."""
BOMB_MIB = 200
"""What a bomb unpacks to."""
MEMORY_MIB = 200
"""Who stays below this has never held a bomb."""


def killed(bench: Bench) -> Iterator[Outcome]:
    """`kill -9` in a long read"""
    yield killed_once(bench, "merge")
    yield killed_once(bench, "append")
    if bench.tool.name == "dlt":
        yield killed_once(bench, "append", " with `add_limit`", pages_per_load=4)
    if bench.tool.name == "airbyte-cdk":
        yield killed_once(bench, "merge", " with `step`", window_days=4)
        yield killed_once(bench, "append", " with `step`", window_days=4)


def killed_once(bench: Bench, disposition: str, option: str = "", **options: Any) -> Outcome:
    """Killed when page 26 of 40 has been asked for and keeps it waiting for two seconds; then run again."""
    held = records(1000, per_day=25)
    script, here, go_on = listing(held, size=25), threading.Event(), threading.Event()
    served: list[tuple[Request, set[int]]] = []

    def slow(request: Request) -> Answer:
        answer = script(request)
        served.append((request, {one["id"] for one in json.loads(answer.body)["data"]}))
        if len(served) == 26:
            answer.wait_for = go_on
            here.set()
        return answer

    case = bench.begin(slow, disposition=disposition, **options)
    process = bench.start(case)
    if not here.wait(LIMIT_SECONDS):
        raise RuntimeError("it never asked for page 26")
    time.sleep(2)
    process.kill()
    asked = len(served)
    received = set().union(*(ids for request, ids in served if request.answered))
    go_on.set()
    bench.tool.settle(bench.place)
    kept = len(bench.rows())
    run = bench.run(case)
    again = sum(len(ids & received) for _, ids in served[asked:])
    missing, extra = balance(bench.rows(), held)
    mark = verdict(run, missing, extra)
    text = f"{kept} of {len(received)} received rows kept, {again} received again; {books(missing, extra)}"
    # A page or two may well have been on their way.
    return Outcome("again" if mark == "right" and again > 50 else mark, text, disposition + option)


def interrupted(
    bench: Bench, held: list[dict[str, Any]], script: Script, good: Script, part: str = "", **case: Any
) -> Outcome:
    """A run with the fault and, when that is over, another one."""
    asked_for = bench.begin(script, **case)
    first = bench.run(asked_for)
    missing, extra = balance(bench.rows(), held)
    mark = verdict(first, missing, extra)
    if mark == "right":
        return Outcome(mark, f"complete, {len(bench.asked())} requests", part)
    bench.server.scripts[bench.name] = good
    second = bench.run(asked_for)
    left, extra = balance(bench.rows(), held)
    after = verdict(second, left, extra)
    text = (
        f"{ending(first)} with {len(held) - missing} of {len(held)} rows; then {ending(second)}, {books(left, extra)}"
    )
    return Outcome(after if mark == "loud" and after != "right" else mark, text, part)


def hardened(
    bench: Bench, default: Outcome, held: list[dict[str, Any]], script: Script, good: Script, part: str = ""
) -> Iterator[Outcome]:
    """What the tool's own option against it makes of the same, where the default fell short and there is one."""
    option = {"dlt": "with `response_actions` and `retry_condition`", "airbyte-cdk": "with `response_filters`"}.get(
        bench.tool.name
    )
    if default.mark != "right" and option:
        yield interrupted(bench, held, script, good, part + option, order="desc", hardened=True)


def html(bench: Bench) -> Iterator[Outcome]:
    """200 with HTML in place of a page"""
    held = records(60)
    good = listing(held, "desc")
    busy = Answer(
        b"<!DOCTYPE html><html><body>We will be back soon</body></html>", headers={"Content-Type": "text/html"}
    )
    script = but(good, "page-2", lambda _: busy)
    default = interrupted(bench, held, script, good, order="desc")
    yield default
    yield from hardened(bench, default, held, script, good)


def envelope(bench: Bench) -> Iterator[Outcome]:
    """200 with an error in the body"""
    held = records(60)
    good = listing(held, "desc")
    script = but(good, "page-2", lambda _: Answer(b'{"error": {"code": "backend_timeout", "message": "try again"}}'))
    default = interrupted(bench, held, script, good, order="desc")
    yield default
    yield from hardened(bench, default, held, script, good)


def cut(bench: Bench) -> Iterator[Outcome]:
    """A body that is cut, once"""

    def reset(answer: Answer) -> Answer:
        return Answer(answer.body, reset_after=len(answer.body) // 2)

    def short(answer: Answer) -> Answer:
        return Answer(answer.body, length=len(answer.body) // 2)

    held = records(60)
    good = listing(held, "desc")
    yield interrupted(bench, held, but(good, "page-2", reset, 1), good, "reset", order="desc")
    default = interrupted(bench, held, but(good, "page-2", short, 1), good, "short length", order="desc")
    yield default
    yield from hardened(bench, default, held, but(good, "page-2", short, 1), good, "short length ")


def lured(bench: Bench) -> Iterator[Outcome]:
    """A page or a redirect that leads to another origin"""
    held = records(30)

    def script(request: Request) -> Answer:
        if request.origin == "elsewhere":
            return page([{"id": 999, "name": "stranger", "updated_at": instant(300, 0)}], next=None, next_cursor=None)
        if not request.params.get("cursor"):
            return page(held[:PAGE], next=elsewhere + "items?cursor=page-1", next_cursor="page-1")
        return Answer(status=307, headers={"Location": elsewhere + "items?cursor=page-1"})

    parts = {
        "next link with a bearer token": {"paginator": "link"},
        "redirect with `X-Api-Key`": {"auth": "key"},
        "redirect with a bearer token": {},
    }
    for part, how in parts.items():
        case = bench.begin(script, incremental=False, **how)
        elsewhere = bench.server.url(bench.name, "elsewhere")
        run = bench.run(case)
        away = [request for request in bench.asked() if request.origin == "elsewhere"]
        told = sum(any(KEY in value for value in request.headers.values()) for request in away)
        stranger = any(row["name"] == "stranger" for row in bench.rows())
        went = f"followed, {'with' if told else 'without'} the key" if away else "nothing was sent there"
        mark = "leak" if told else "followed" if away else verdict(run, len(held) - len(bench.rows()), 0)
        yield Outcome(mark, f"{ending(run)}, {went}{', and its rows were stored' * stranger}", part)


def looped(bench: Bench) -> Iterator[Outcome]:
    """The same next token for ever"""
    held = records(30)

    def script(request: Request) -> Answer:
        at = PAGE if request.params.get("cursor") else 0
        return page(held[at : at + PAGE], next_cursor="page-1")

    case = bench.begin(script, incremental=False)
    run = bench.run(case, LOOP_SECONDS)
    requests = len(bench.asked())
    if run.code is None:
        yield Outcome("endless", f"still asking after {LOOP_SECONDS} s, at request {round_down(requests)}")
    else:
        yield Outcome("loud" if run.code else "silent", f"{ending(run)} after {requests} requests")


def round_down(number: int) -> str:
    """Two digits of it: the rest differs from run to run."""
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{number // step * step:,}"


def told_to_wait(bench: Bench) -> Iterator[Outcome]:
    """429 with `Retry-After`"""
    yield told(bench, "in seconds", lambda until, now: str(math.ceil(until - now)))
    yield told(bench, "as a date", lambda until, _: email.utils.formatdate(until, usegmt=True))


def told(bench: Bench, part: str, header: Callable[[int, float], str]) -> Outcome:
    """The second page is refused until a moment six seconds away."""
    held = records(30)
    good = listing(held)
    until = 0

    def script(request: Request) -> Answer:
        nonlocal until
        if request.params.get("cursor") == "page-1":
            until = until or math.ceil(request.at) + 6
            if request.at < until:
                return Answer(status=429, headers={"Retry-After": header(until, request.at)})
        return good(request)

    run = bench.run(bench.begin(script))
    at_page = [request.at for request in bench.asked() if request.params.get("cursor") == "page-1"]
    early = sum(at < until for at in at_page[1:])
    missing, extra = balance(bench.rows(), held)
    mark = verdict(run, missing, extra)
    return Outcome(
        "early" if early else mark, f"{ending(run)}, asked {early} times too early; {books(missing, extra)}", part
    )


def tied(bench: Bench) -> Iterator[Outcome]:
    """Records with the very cursor value that the last run ended at"""
    for disposition in ["merge", "append"]:
        held = records(25)
        for one in held[-4:]:
            one["updated_at"] = instant(40, 0)
        served = list(held)
        case = bench.begin(lambda request, served=served: listing(served)(request), disposition=disposition)
        runs = [bench.run(case)]
        served += [{"id": 100 + n, "name": f"late {n}", "updated_at": instant(40, 0)} for n in range(3)]
        served += [{"id": 200 + n, "name": f"new {n}", "updated_at": instant(41, n)} for n in range(5)]
        runs += [bench.run(case), bench.run(case)]
        missing, extra = balance(bench.rows(), served)
        worst = next((run for run in runs if run.code != 0), runs[0])
        yield Outcome(verdict(worst, missing, extra), f"{ending(worst)}, {books(missing, extra)}", disposition)


VALUES = {
    "the largest of 64 bits, signed": ["9223372036854775807"],
    "the largest of 64 bits, unsigned": ["18446744073709551615"],
    "30 digits": ["123456789012345678901234567890"],
    "0.1": ["0.1"],
    "19 decimals": ["0.1234567890123456789"],
    "7, then the text 007": ["7", '"007"'],
    "1, then 1.5, then 2": ["1", "1.5", "2"],
    "1e400": ["1e400"],
}
"""Of one field each, in as many records."""


def numbers(bench: Bench) -> Iterator[Outcome]:
    """Values that do not fit, one kind in each run"""
    yield kept_as_they_were(bench, "")
    if bench.tool.name == "dlt":
        yield kept_as_they_were(bench, "with `data_type` text and `DLT_USE_JSON=simplejson`", exact_values=True)


def kept_as_they_were(bench: Bench, part: str, **options: bool) -> Outcome:
    changed, refused = [], []
    for label, tokens in VALUES.items():
        body = ", ".join(f'{{"id": {n}, "name": "n", "value": {token}}}' for n, token in enumerate(tokens, 1))
        answer = Answer(f'{{"data": [{body}], "next_cursor": null}}'.encode())
        run = bench.run(bench.begin(lambda _, answer=answer: answer, incremental=False, **options))
        stored = {row["id"]: row.get("value") for row in bench.rows()}
        if all(same(stored.get(n), token) for n, token in enumerate(tokens, 1)):
            continue
        if run.code != 0:
            refused.append(label)
        else:
            changed.append(f"{label} ({', '.join(shown(stored.get(n)) for n in range(1, len(tokens) + 1))})")
    text = f"{len(VALUES) - len(changed) - len(refused)} of {len(VALUES)} kinds came back exactly"
    text += (
        "; changed: " * bool(changed)
        + ", ".join(changed)
        + "; refused, with an exit code: " * bool(refused)
        + ", ".join(refused)
    )
    return Outcome("silent" if changed else "loud" if refused else "right", text, part)


def same(stored: Any, token: str) -> bool:
    """Whether this is what the token says: the same text, or exactly the same number, which may be written as text."""
    due = json.loads(token, parse_float=Decimal)
    if isinstance(due, str) or stored is None:
        return stored == due and type(stored) is type(due)
    try:
        return Decimal(repr(stored) if isinstance(stored, float) else str(stored)) == due
    except ArithmeticError:
        return False


def shown(stored: Any) -> str:
    return "nothing" if stored is None else repr(stored) if isinstance(stored, float | str) else str(stored)


def bombed(bench: Bench) -> Iterator[Outcome]:
    """A small body that unpacks to hundreds of megabytes"""
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(b'{"data": [{"id": 1, "name": "')
    packed += b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(BOMB_MIB))
    packed += packer.compress(b'"}], "next_cursor": null}') + packer.flush()
    case = bench.begin(lambda _: Answer(packed, headers={"Content-Encoding": "gzip"}), incremental=False)
    run = bench.run(case)
    text = f"{ending(run)}, {len(bench.rows())} rows; up to {round_down(run.peak_mib)} MiB of memory"
    yield Outcome("memory" if run.peak_mib > MEMORY_MIB else "loud" if run.code else "right", text)


FAULTS = [killed, html, envelope, cut, lured, looped, told_to_wait, tied, numbers, bombed]
