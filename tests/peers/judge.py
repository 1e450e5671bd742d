"""Drives the tools through the faults and prints what they did; after all tools and all faults it writes the page, too.

Exits 1 if highwater is neither right nor loud somewhere.
"""

import argparse
import datetime
import os
import platform
import signal
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import Bench, Outcome
from faults import FAULTS, bombed
from process import end_all
from server import Server
from tools import KEY, Airbyte, Case, Dlt, Highwater, Tool
from words import LEGEND, NOTES, PAGE

DOCS = Path(__file__).resolve().parents[2] / "docs" / "peers.md"


def reach_nobody() -> bool:
    """Whether nothing but loopback can be reached, not even in principle."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # An address for documentation; a datagram socket sends nothing to connect.
        except OSError:
            return True
    return False


def judged(server: Server, tool: Tool, fault: Callable, folder: Path) -> list[Outcome]:
    """What became of one tool before one fault."""
    outcomes = []
    for outcome in fault(Bench(server, tool, folder / fault.__name__ / tool.name)):
        outcomes.append(outcome)
        part = f"{outcome.part}: " if outcome.part else ""
        print(f"{fault.__name__:13} {tool.name:12} {outcome.mark:8} {part}{outcome.text}", flush=True)
    return outcomes


def all_judged(tools: list[Tool], faults: list[Callable]) -> dict[str, dict[str, list[Outcome]]]:
    """By fault and tool. Several at a time, as much of it is waiting; one by one where memory is measured."""
    for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, end_all)
    server = Server()
    results: dict[str, dict[str, list[Outcome]]] = {fault.__name__: {} for fault in faults}
    with tempfile.TemporaryDirectory() as folder:
        # What the tools keep for themselves stays here; their telemetry is off.
        quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
        os.environ |= {"HOME": folder, "DLT_DATA_DIR": folder, "API_KEY": KEY, **quiet}

        def judge(pair: tuple[Callable, Tool]) -> None:
            fault, tool = pair
            results[fault.__name__][tool.name] = judged(server, tool, fault, Path(folder))

        pairs = [(fault, tool) for fault in faults for tool in tools]
        for at_a_time, of_memory in [(3, False), (1, True)]:
            with ThreadPoolExecutor(at_a_time) as pool:
                list(pool.map(judge, [pair for pair in pairs if (pair[0] is bombed) == of_memory]))
    return results


def cell(outcomes: list[Outcome]) -> str:
    """A line for each outcome; parts that came out the same share one."""
    if len(outcomes) == 1:
        return f"**{outcomes[0].mark}** – {outcomes[0].text}"
    lines: dict[str, list[str]] = {}
    for one in outcomes:
        lines.setdefault(f"**{one.mark}** – {one.text}", []).append(one.part or "by default")
    return "<br>".join(f"{', '.join(parts)}: {line}" for line, parts in lines.items())


def title(fault: Callable) -> str:
    return str(fault.__doc__)


def note(number: int, fault: Callable) -> str:
    indent = " " * len(f"{number}. ")
    text = f"{number}. **{title(fault)}.** {' '.join(NOTES[fault.__name__].split())}"
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def page(tools: list[Tool], results: dict[str, dict[str, list[Outcome]]], alone: bool) -> str:
    case = Case("http://127.0.0.1:PORT/", order="desc")
    head = "| | fault | " + " | ".join(f"{tool.name} {tool.version}" for tool in tools) + " |"
    lines = [head, "|---" * (2 + len(tools)) + "|"]
    for number, fault in enumerate(FAULTS, 1):
        cells = [cell(results[fault.__name__][tool.name]) for tool in tools]
        lines.append(f"| {number} | {title(fault)} | " + " | ".join(cells) + " |")
    notes = [note(number, fault) for number, fault in enumerate(FAULTS, 1)]
    highwater, dlt, airbyte = (tool.configuration(case).replace(KEY, "KEY").strip() for tool in tools)
    return PAGE.format(
        date=datetime.date.today().isoformat(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        place="in a network namespace that has nothing but loopback" if alone else "on loopback",
        versions=", ".join(f"{tool.name} {tool.version}" for tool in tools),
        table="\n".join(lines),
        legend="\n".join(f"| **{mark}** | {meaning} |" for mark, meaning in LEGEND.items()),
        notes="\n".join(notes),
        highwater=highwater,
        dlt=dlt,
        airbyte=airbyte,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--highwater", type=Path, required=True, help="the program")
    parser.add_argument("--dlt", type=Path, help="a virtual environment; left out without it")
    parser.add_argument("--airbyte", type=Path, help="likewise")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(fault.__name__ for fault in FAULTS))
    options = parser.parse_args()
    if unknown := set(options.faults) - {fault.__name__ for fault in FAULTS}:
        parser.error(f"no such fault: {', '.join(unknown)}")
    chosen = [fault for fault in FAULTS if not options.faults or fault.__name__ in options.faults]
    tools: list[Tool] = [Highwater(options.highwater)]
    tools += [Dlt(options.dlt)] if options.dlt else []
    tools += [Airbyte(options.airbyte)] if options.airbyte else []
    print(", ".join(f"{tool.name} {tool.version}" for tool in tools))
    alone = reach_nobody()
    print(
        "nothing but loopback can be reached" if alone else "others than loopback could be reached, and are not asked"
    )
    results = all_judged(tools, chosen)
    if chosen == FAULTS and len(tools) == 3:
        DOCS.write_text(page(tools, results, alone), encoding="utf-8")
        print("written: docs/peers.md")
    else:
        print("not all of it was measured: docs/peers.md stays as it was")
    ours = [outcome for cells in results.values() for outcome in cells["highwater"]]
    return int(any(outcome.mark not in ["right", "loud"] for outcome in ours))


if __name__ == "__main__":
    sys.exit(main())
