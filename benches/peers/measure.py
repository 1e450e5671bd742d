"""Has the tools read the same pages of the same server in turn, and prints what each took; into docs/benchmarks.md, too.

Each begins with an empty folder. A time counts only if the server handed out every record once and the rows that were
stored are those of the floor.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from process import Process, end_all  # noqa: E402
from tools import version  # noqa: E402

BEGIN, END = "<!-- peers -->", "<!-- end of peers -->"
COLUMNS = """id INTEGER, kind TEXT, user_id INTEGER, amount REAL, currency TEXT, ok BOOLEAN, note TEXT, created_at TEXT,
    updated_at TEXT, ref TEXT"""
SUMS = """SELECT count(*), count(DISTINCT id), sum(id), sum(user_id), sum(CAST(round(amount * 100) AS INTEGER)), sum(ok),
    sum(length(note)) FROM """

# The first amount is a whole number, so dlt keeps all others in a column of their own.
DLT_TABLE = "(SELECT id, user_id, coalesce(amount, amount__v_double) AS amount, ok, note FROM items)"


@dataclass
class Tool:
    name: str
    does: str
    command: list[str]
    files: dict[str, str] = field(default_factory=dict)
    """What is written into its folder, and the files beside this one that it is made from."""
    words: dict[str, str] = field(default_factory=dict)
    """What stands for `@WORD@` in them, besides what is the same for all."""
    table: str = ""
    """What its rows are selected from in `copy.db`; it has none if empty, and what it prints is thrown away."""
    sql: str = ""
    """What is done by hand before."""
    is_slow: bool = False
    """Measured in the first half of the rounds."""
    seconds: list[float] = field(default_factory=list)
    peaks_mib: list[int] = field(default_factory=list)


def output(*command: str | Path) -> str:
    return subprocess.check_output(command, text=True).strip()


def tools_of(options: argparse.Namespace) -> list[Tool]:
    """Those that are there; highwater first."""
    tools = [
        Tool(
            output(options.highwater, "--version"),
            "`merge` into a new file",
            [str(options.highwater), "sync", "--quiet"],
            {"config.toml": "highwater.toml"},
            table="bench_items",
        )
    ]
    if options.faucet:
        tools.append(
            Tool(
                output(options.faucet, "--version"),
                "appends to a table that was made by hand",
                [str(options.faucet), "run", "faucet.yaml"],
                {"faucet.yaml": "faucet.yaml"},
                table="items",
                sql=f"CREATE TABLE items ({COLUMNS})",
            )
        )
    if options.airbyte:
        number = version(options.airbyte / "bin" / "python", "airbyte-cdk")
        program = str(options.airbyte / "bin" / "source-declarative-manifest")
        names = ["--config", "config.json", "--catalog", "catalog.json", "--manifest-path", "airbyte.json"]
        tools.append(
            Tool(
                f"airbyte-cdk {number}",
                "only reads; what it prints is thrown away",
                [program, "read", *names],
                {"airbyte.json": "airbyte.json", "catalog.json": "catalog.json", "config.json": ""},
                {"VERSION": number},
                is_slow=True,
            )
        )
    if options.dlt:
        driver = str(ROOT / "tests" / "peers" / "drive_dlt.py")
        for disposition in ["append", "merge"]:
            tools.append(
                Tool(
                    f"dlt {version(options.dlt / 'bin' / 'python', 'dlt')}",
                    f"`{disposition}` into a new file",
                    [str(options.dlt / "bin" / "python"), driver, "dlt.json"],
                    {"dlt.json": "dlt.json"},
                    {"DISPOSITION": disposition},
                    table=DLT_TABLE,
                    is_slow=True,
                )
            )
    return tools


def sums(database: Path, table: str) -> tuple:
    """Enough to tell other rows from these."""
    with closing(sqlite3.connect(database)) as db:
        return db.execute(SUMS + table).fetchone()


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.records = options.pages * options.rows
        self.expected: tuple = ()
        """The sums of the floor's rows."""
        self.floors: list[float] = []
        self.server = subprocess.Popen(
            [options.workloads, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.server.stdout.readline().strip()

    def close(self) -> None:
        """The server ends with its input."""
        self.server.stdin.close()
        self.server.wait()

    def served(self, who: str) -> None:
        """Every record must have been handed out once."""
        with urlopen(f"{self.url}/served") as answer:
            number = int(answer.read())
        if number != self.records:
            raise SystemExit(f"{who}: {number} records were handed out, and there are {self.records}")

    def check(self, who: str, found: tuple) -> None:
        if found != self.expected:
            raise SystemExit(f"{who}: other rows than the floor's: {found}, and not {self.expected}")

    def floor(self) -> None:
        """Both halves; each says how long it took, without what it prepares."""
        database = self.folder / "floor.db"
        fetch = output(
            self.options.workloads, "floor-fetch", self.url, "flat", str(self.options.pages), str(self.options.rows)
        )
        self.served("floor")
        insert = output(self.options.workloads, "floor-insert", database, "flat", str(self.records))
        self.expected = sums(database, "t")
        database.unlink()
        self.floors.append(float(fetch) + float(insert))

    def prepared(self, tool: Tool) -> Path:
        """A new folder with what the tool needs in it."""
        folder = self.folder / "run"
        folder.mkdir()
        words = {
            "URL": self.url,
            "PAGES": str(self.options.pages),
            "ROWS": str(self.options.rows),
            "FOLDER": str(folder),
        }
        for name, template in tool.files.items():
            text = (HERE / template).read_text(encoding="utf-8") if template else "{}"
            for word, value in (words | tool.words).items():
                text = text.replace(f"@{word}@", value)
            (folder / name).write_text(text, encoding="utf-8")
        if tool.sql:
            with closing(sqlite3.connect(folder / "copy.db")) as db:
                db.execute(tool.sql)
        return folder

    def count_printed(self, tool: Tool) -> None:
        """One more run of who stores nothing, not measured: what it prints must be the records."""
        folder = self.prepared(tool)
        with (
            closing(sqlite3.connect(folder / "copy.db")) as db,
            subprocess.Popen(tool.command, cwd=folder, stdout=subprocess.PIPE, text=True) as child,
        ):
            db.execute(f"CREATE TABLE items ({COLUMNS})")
            db.executemany(
                "INSERT INTO items (id, user_id, amount, ok, note) VALUES (:id, :user_id, :amount, :ok, :note)",
                records(child.stdout),
            )
            db.commit()
        self.served(tool.name)
        self.check(tool.name, sums(folder / "copy.db", "items"))
        shutil.rmtree(folder)

    def measure(self, tool: Tool) -> None:
        folder = self.prepared(tool)
        log = folder / "log" if tool.table else Path(os.devnull)
        process = Process(tool.command, folder, log)
        while not (run := process.ended()):
            time.sleep(0.002)
        seconds = time.monotonic() - process.began
        if run.code != 0:
            told = log.read_text(encoding="utf-8", errors="replace")[-2000:] if tool.table else ""
            raise SystemExit(f"{tool.name} ended with {run.code}\n{told}")
        self.served(tool.name)
        if tool.table:
            self.check(tool.name, sums(folder / "copy.db", tool.table))
        shutil.rmtree(folder)
        tool.seconds.append(seconds)
        tool.peaks_mib.append(run.peak_mib)
        print(f"  {tool.name}, {tool.does}: {seconds:.2f} s", flush=True)


def records(lines: Iterable[str]) -> Iterable[dict]:
    """What an Airbyte source printed, without its other messages."""
    for line in lines:
        if line.startswith("{") and (message := json.loads(line)).get("type") == "RECORD":
            yield message["record"]["data"]


def plain(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(seconds: list[float]) -> str:
    return f"{plain(statistics.median(seconds))} ({plain(min(seconds))}–{plain(max(seconds))})"


def table(bench: Bench, tools: list[Tool]) -> str:
    ours = statistics.median(tools[0].seconds)
    lines = [
        "| | what it did | records | runs | seconds: median (least–most) | of highwater's | peak, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    figures = [("floor", "fetches, then inserts what is in memory", bench.floors, "–")]
    figures += [(tool.name, tool.does, tool.seconds, max(tool.peaks_mib)) for tool in tools]
    for name, does, seconds, peak in figures:
        ratio = plain(statistics.median(seconds) / ours)
        lines.append(
            f"| {name} | {does} | {bench.records:,} | {len(seconds)} | {spread(seconds)} | {ratio} | {peak} |"
        )
    return "\n".join(lines)


def machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = f" ({models[0].split(': ')[1]})" if models else ""
    return f"Linux {platform.release()}, {os.cpu_count()} cores{model}, Python {platform.python_version()}"


def load() -> str:
    return f"{os.getloadavg()[0]:.2f}"


def write(figures: str) -> None:
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{figures}\n\n{END}{tail}", encoding="utf-8")
    print("written: docs/benchmarks.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=Path, required=True, help="the program with the server and the floor")
    parser.add_argument("--highwater", type=Path, required=True, help="the program")
    parser.add_argument("--faucet", type=Path, help="the program; left out without it")
    parser.add_argument("--airbyte", type=Path, help="a virtual environment; left out without it")
    parser.add_argument("--dlt", type=Path, help="likewise")
    parser.add_argument("--pages", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True, help="on a page: 1, 10, 100 or 1000")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--left-out", action="append", default=[], help="who could not be installed")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md, too")
    options = parser.parse_args()
    for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, end_all)
    began, load_before = datetime.date.today(), load()
    tools = tools_of(options)
    with tempfile.TemporaryDirectory() as folder:
        # What the tools keep for themselves stays here; their telemetry is off.
        quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
        os.environ |= {"HOME": folder, "DLT_DATA_DIR": folder, **quiet}
        bench = Bench(options, Path(folder))
        try:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", flush=True)
                bench.floor()
                for tool in tools:
                    if number == 0 and not tool.table:
                        bench.count_printed(tool)
                    if not tool.is_slow or number < (options.rounds + 1) // 2:
                        bench.measure(tool)
        finally:
            bench.close()
    told = f"{began}, {machine()}, load {load_before} at the start and {load()} at the end; pages of {options.rows}."
    left_out = "".join(f"\n\nNot measured, as it could not be installed: {who}." for who in options.left_out)
    figures = f"{told}\n\n{table(bench, tools)}{left_out}"
    print(f"\n{figures}\n")
    if options.write:
        write(figures)


if __name__ == "__main__":
    main()
