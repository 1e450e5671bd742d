"""Drives the tools through the faults and prints what they did. If that was all tools and all faults, it writes the page, too.

Exits 1 if highwater is neither right nor loud somewhere.
"""
import argparse
import datetime
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import FAULTS, Bench, Outcome, bombed
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
    """What came of one tool before one fault; a mistake of the judge's is no outcome, and ends everything."""
    outcomes = []
    for outcome in fault(Bench(server, tool, folder / fault.__name__ / tool.name)):
        outcomes.append(outcome)
        print(f"{fault.__name__:13} {tool.name:12} {outcome.mark:8} {outcome.part + ': ' if outcome.part else ''}{outcome.text}", flush=True)
    return outcomes


def cell(outcomes: list[Outcome]) -> str:
    return "<br>".join(f"{one.part + ': ' if one.part else ''}**{one.mark}** – {one.text}" for one in outcomes)


def title(fault: Callable) -> str:
    return str(fault.__doc__)


def page(tools: list[Tool], results: dict[str, dict[str, list[Outcome]]]) -> str:
    case = Case("http://127.0.0.1:PORT/", order="desc")
    head = "| | fault | " + " | ".join(f"{tool.name} {tool.version}" for tool in tools) + " |"
    lines = [head, "|---" * (2 + len(tools)) + "|"]
    for number, fault in enumerate(FAULTS, 1):
        cells = [cell(results[fault.__name__][tool.name]) for tool in tools]
        lines.append(f"| {number} | {title(fault)} | " + " | ".join(cells) + " |")
    notes = [f"{number}. **{title(fault)}.** {NOTES[fault.__name__]}" for number, fault in enumerate(FAULTS, 1)]
    highwater, dlt, airbyte = (tool.configuration(case).strip() for tool in tools)
    return PAGE.format(
        date=datetime.date.today().isoformat(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
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
    print("nothing but loopback can be reached" if reach_nobody() else "no network namespace here: the tools could reach others, and are not asked to")
    server = Server()
    results: dict[str, dict[str, list[Outcome]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # What the tools keep for themselves stays here; their telemetry is off.
        os.environ |= {"HOME": folder, "DLT_DATA_DIR": folder, "RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1", "API_KEY": KEY}
        for fault in chosen:
            # One by one where memory is what is measured, or all would need it at the same time.
            with ThreadPoolExecutor(1 if fault is bombed else len(tools)) as pool:
                outcomes = pool.map(lambda tool, fault=fault: judged(server, tool, fault, Path(folder)), tools)
                results[fault.__name__] = dict(zip([tool.name for tool in tools], outcomes, strict=True))
    if chosen == FAULTS and len(tools) == 3:
        DOCS.write_text(page(tools, results), encoding="utf-8")
        print("written: docs/peers.md")
    else:
        print("not all of it was measured: docs/peers.md stays as it was")
    ours = [outcome for cells in results.values() for outcome in cells["highwater"]]
    return int(any(outcome.mark not in ["right", "loud"] for outcome in ours))


if __name__ == "__main__":
    sys.exit(main())
