"""The three tools: how each is configured for a case, started, and what it has in its database afterwards."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from process import Process

KEY = "secret-7f3a9c"
"""The credential of the API. No request to another origin may carry it."""
FIRST, LAST = "2024-01-01T00:00:00Z", "2024-02-15T00:00:00Z"
"""Where reading begins and, for who reads in windows, where it ends."""


@dataclass
class Case:
    """What is to be copied, in the words of none of the tools."""

    url: str
    disposition: str = "merge"
    order: str = "asc"
    """How the API sorts: by `updated_at`, oldest (`asc`) or newest (`desc`) first."""
    incremental: bool = True
    paginator: str = "cursor"
    """`cursor`: a token in the body; `link`: a URL in the body."""
    auth: str = "bearer"
    """`bearer`, or `key` for a header `X-Api-Key`."""
    window_days: int = 0
    """airbyte-cdk saves its place between windows of the cursor only: so many days in each, one window without."""
    pages_per_load: int = 0
    """dlt loads after so many pages, and goes on until nothing more comes; 0: it loads once, at the end."""
    hardened: bool = False
    """With what the tool has against a page without records, where that is not its default."""
    exact_values: bool = False
    """dlt is told that the field `value` is text, and to parse JSON by a slower way that loses less."""


def query(database: Path, sql: str) -> list[dict[str, Any]]:
    """What is there; nothing if the file or the table is not."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as db:
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(sql)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def exact_json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


class Highwater:
    name = "highwater"

    def __init__(self, program: Path) -> None:
        self.program = program
        self.version = subprocess.check_output([program, "--version"], text=True).split()[1]

    def configuration(self, case: Case) -> str:
        paginators = {
            "cursor": '{ type = "cursor", cursor_path = "next_cursor", cursor_param = "cursor" }',
            "link": '{ type = "json_link", next_url_path = "next" }',
        }
        auths = {
            "bearer": '{ type = "bearer", token = "${env:API_KEY}" }',
            "key": '{ type = "api_key", name = "X-Api-Key", api_key = "${env:API_KEY}", location = "header" }',
        }
        lines = [
            '[destination]\npath = "copy.db"\n\n[sources.api.client]',
            f'base_url  = "{case.url}"',
            f"auth      = {auths[case.auth]}",
            f"paginator = {paginators[case.paginator]}",
            '\n[sources.api.resources.items]\nprimary_key       = "id"\ndata_selector     = "data"',
            f'write_disposition = "{case.disposition}"',
        ]
        if case.incremental:
            lines += [
                'params            = { since = "${incremental.start_value}" }',
                f'incremental       = {{ cursor_path = "updated_at", initial_value = "{FIRST}", row_order = "{case.order}" }}',
            ]
        return "\n".join(lines) + "\n"

    def start(self, case: Case, folder: Path) -> Process:
        (folder / "config.toml").write_text(self.configuration(case))
        return Process([str(self.program), "sync"], folder, folder / "log")

    def settle(self, folder: Path) -> None:
        """It has its own destination."""

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        """The rows, each with the values that did not fit their column."""
        rows = query(folder / "copy.db", "SELECT * FROM api_items")
        return [row | exact_json(row.get("_extra") or "{}") for row in rows]


class Dlt:
    name = "dlt"

    def __init__(self, environment: Path) -> None:
        self.python = environment / "bin" / "python"
        self.version = version(self.python, "dlt")

    def configuration(self, case: Case) -> str:
        endpoint: dict[str, Any] = {"path": "items", "data_selector": "data"}
        if case.incremental:
            endpoint["params"] = {"since": "{incremental.start_value}"}
            endpoint["incremental"] = {"cursor_path": "updated_at", "initial_value": FIRST}
            if case.pages_per_load:
                endpoint["incremental"]["row_order"] = "asc"
        client = {
            "base_url": case.url,
            "auth": {
                "bearer": {"type": "bearer", "token": KEY},
                "key": {"type": "api_key", "name": "X-Api-Key", "api_key": KEY, "location": "header"},
            }[case.auth],
            "paginator": {
                "cursor": {"type": "cursor", "cursor_path": "next_cursor", "cursor_param": "cursor"},
                "link": {"type": "json_link", "next_url_path": "next"},
            }[case.paginator],
        }
        items: dict[str, Any] = {
            "name": "items",
            "primary_key": "id",
            "write_disposition": case.disposition,
            "endpoint": endpoint,
        }
        if case.exact_values:
            items["columns"] = {"value": {"data_type": "text"}}
        return json.dumps({"client": client, "resources": [items]}, indent=2)

    def start(self, case: Case, folder: Path) -> Process:
        spec = {
            "folder": str(folder / "pipelines"),
            "database": str(folder / "copy.db"),
            "hardened": case.hardened,
            "pages_per_load": case.pages_per_load,
            "config": json.loads(self.configuration(case)),
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        settings = ["DLT_USE_JSON=simplejson"] if case.exact_values else []
        command = ["env", *settings, str(self.python), str(Path(__file__).with_name("drive_dlt.py")), "spec.json"]
        return Process(command, folder, folder / "log")

    def settle(self, folder: Path) -> None:
        """It has its own destination."""

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        """The rows; a value that did not fit its column is in a variant of it, which has `__v_` in its name."""
        rows = []
        for row in query(folder / "copy.db", "SELECT * FROM items"):
            variants = {
                name.partition("__v_")[0]: value for name, value in row.items() if "__v_" in name and value is not None
            }
            rows.append(row | variants)
        return rows


class Airbyte:
    name = "airbyte-cdk"

    def __init__(self, environment: Path) -> None:
        self.program = environment / "bin" / "source-declarative-manifest"
        self.version = version(environment / "bin" / "python", "airbyte-cdk")

    def configuration(self, case: Case) -> str:
        handler: dict[str, Any] = {
            "type": "DefaultErrorHandler",
            "backoff_strategies": [{"type": "WaitTimeFromHeader", "header": "Retry-After"}],
        }
        if case.hardened:
            handler["response_filters"] = [
                {"type": "HttpResponseFilter", "action": "RETRY", "predicate": "{{ 'data' not in response }}"}
            ]
        field = {"cursor": "next_cursor", "link": "next"}[case.paginator]
        paginator = {
            "type": "DefaultPaginator",
            "page_token_option": {
                "cursor": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "cursor"},
                "link": {"type": "RequestPath"},
            }[case.paginator],
            "pagination_strategy": {
                "type": "CursorPagination",
                "cursor_value": f"{{{{ response.get('{field}', {{}}) }}}}",
                "stop_condition": f"{{{{ not response.get('{field}', {{}}) }}}}",
            },
        }
        requester = {
            "type": "HttpRequester",
            "url_base": case.url,
            "path": "items",
            "http_method": "GET",
            "authenticator": {
                "bearer": {"type": "BearerAuthenticator", "api_token": "{{ config['api_key'] }}"},
                "key": {
                    "type": "ApiKeyAuthenticator",
                    "api_token": "{{ config['api_key'] }}",
                    "inject_into": {"type": "RequestOption", "inject_into": "header", "field_name": "X-Api-Key"},
                },
            }[case.auth],
            "error_handler": handler,
        }
        stream = {
            "type": "DeclarativeStream",
            "name": "items",
            "primary_key": ["id"],
            "retriever": {
                "type": "SimpleRetriever",
                "requester": requester,
                "record_selector": {
                    "type": "RecordSelector",
                    "extractor": {"type": "DpathExtractor", "field_path": ["data"]},
                },
                "paginator": paginator,
            },
            "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "additionalProperties": True}},
        }
        if case.incremental:
            stream["incremental_sync"] = self._incremental(case.window_days)
        manifest = {
            "version": self.version,
            "type": "DeclarativeSource",
            "check": {"type": "CheckStream", "stream_names": ["items"]},
            "streams": [stream],
            "spec": {
                "type": "Spec",
                "connection_specification": {"type": "object", "properties": {"api_key": {"type": "string"}}},
            },
        }
        return json.dumps(manifest, indent=2)

    @staticmethod
    def _incremental(window_days: int) -> dict[str, Any]:
        incremental = {
            "type": "DatetimeBasedCursor",
            "cursor_field": "updated_at",
            "datetime_format": "%Y-%m-%dT%H:%M:%SZ",
            "start_datetime": FIRST,
            "start_time_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "since"},
        }
        if window_days:
            incremental |= {
                "end_datetime": LAST,
                "end_time_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "until"},
                "step": f"P{window_days}D",
                "cursor_granularity": "PT1S",
            }
        return incremental

    def start(self, case: Case, folder: Path) -> Process:
        mode = {"merge": "append_dedup", "append": "append"}[case.disposition]
        stream = {
            "name": "items",
            "json_schema": {"type": "object", "additionalProperties": True},
            "supported_sync_modes": ["full_refresh", "incremental"],
            "source_defined_primary_key": [["id"]],
        }
        configured = {
            "stream": stream,
            "sync_mode": "incremental" if case.incremental else "full_refresh",
            "destination_sync_mode": mode,
            "cursor_field": ["updated_at"],
            "primary_key": [["id"]],
        }
        with self._destination(folder) as db:
            state = [json.loads(text) for (text,) in db.execute("SELECT state FROM state")]
        files = {
            "manifest": self.configuration(case),
            "catalog": json.dumps({"streams": [configured]}),
            "config": json.dumps({"api_key": KEY}),
            "state": json.dumps(state),
            "mode": mode,
        }
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)
        (folder / "messages").unlink(missing_ok=True)
        options = [
            "--config",
            "config.json",
            "--catalog",
            "catalog.json",
            "--state",
            "state.json",
            "--manifest-path",
            "manifest.json",
        ]
        return Process([str(self.program), "read", *options], folder, folder / "messages")

    @staticmethod
    def _destination(folder: Path) -> closing[sqlite3.Connection]:
        db = sqlite3.connect(folder / "copy.db", isolation_level=None)
        db.execute("CREATE TABLE IF NOT EXISTS items (key TEXT UNIQUE, message TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS state (stream TEXT PRIMARY KEY, state TEXT)")
        return closing(db)

    def settle(self, folder: Path) -> None:
        """The destination, which is no part of the CDK: it takes what the source wrote until it ended or was killed.

        Rows are committed together with the state that follows them, and what no state follows is left out: with no
        other rule would fewer rows come twice.
        """
        merges = (folder / "mode.json").read_text() == "append_dedup"
        with self._destination(folder) as db:
            db.execute("BEGIN")
            for message, line in self._messages(folder):
                if message["type"] == "RECORD":
                    key = json.dumps(message["record"]["data"].get("id")) if merges else None
                    db.execute("INSERT OR REPLACE INTO items VALUES (?, ?)", [key, line])
                elif message["type"] == "STATE":
                    stream = message["state"]["stream"]["stream_descriptor"]["name"]
                    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", [stream, json.dumps(message["state"])])
                    db.execute("COMMIT")
                    db.execute("BEGIN")
            db.execute("ROLLBACK")

    @staticmethod
    def _messages(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
        """Each message with the line that it came in; the last line may be cut, others may be warnings of Python's."""
        with open(folder / "messages", encoding="utf-8") as file:
            for line in file:
                try:
                    message = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(message, dict) and "type" in message:
                    yield message, line

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        return [
            exact_json(row["message"])["record"]["data"]
            for row in query(folder / "copy.db", "SELECT message FROM items")
        ]


Tool = Highwater | Dlt | Airbyte


def version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.check_output([python, "-c", code], text=True).strip()
