"""What docs/peers.md says besides the measurements: the only words of it that are typed by hand."""

LEGEND = {
    "right": "Everything is there, once, and nothing went where it should not.",
    "loud": "Not everything is there, and the exit code says so. Where the fault does not go away, nobody could do better.",
    "again": "Everything is there, once; more than two pages that had been received were asked for again.",
    "doubled": "Rows are there more than once, with exit code 0.",
    "silent": "Data is missing or changed, with exit code 0.",
    "leak": "The API's key was sent to another origin.",
    "followed": "It went to another origin, without the key, and stored what came from there.",
    "endless": "It came to no end within the time it had, and was killed.",
    "early": "It asked again before the time that the API had named.",
    "memory": "Its memory grew with what the body unpacks to.",
}

NOTES = {
    "killed": """40 pages of 25 records, oldest first. When page 26 has been asked for, the server keeps it waiting; two seconds
   later the process is killed, and then run again. dlt loads when all of it has been extracted. Its documentation splits long
   loads into several: here with `row_order` and an `add_limit` of four pages, in a loop. airbyte-cdk saves its place between
   windows of the cursor; there is one, unless a `step` makes more, here of four days each. It reads two windows at a time, so
   the numbers differ from run to run, and rows of the window that is not yet done come again. For `append`, Airbyte's
   documentation promises "at least once".""",
    "html": """60 records, newest first, ten in a page; the third page is HTML with status 200 as long as the first run lasts.
   Newest first is how many APIs sort, and where silence costs most: the cursor moves to the newest record, and what is
   behind the page is not asked for any more. airbyte-cdk's `JsonDecoder` makes an empty object of what is no JSON, and an
   empty object is a last page. `response_filters` with the predicate `{{ 'data' not in response }}` and the action `RETRY`
   helps.""",
    "envelope": """As before, but the third page is `{"error": …}`, with status 200. For dlt and airbyte-cdk a page without
   the records' path is a page without records, and one without a token the last one. In dlt, `response_actions` with a function
   of one's own helps; where an API has a field that says whether there is more, so would `has_more_path`.""",
    "cut": """As before, but the third page is cut in its middle, and only once. First with a reset connection, then with a
   `Content-Length` that is too short, so that HTTP itself finds nothing wrong. In dlt, `response_actions` sees what is no page, and a
   `session` with a `retry_condition` tries it again.""",
    "lured": """The second page is at another port, another origin; the first page links to it, or a redirect with status
   307 leads there. Both peers attach the key to whatever link they follow; on a redirect, their HTTP library takes a bearer
   token off, but no other header. Following without the key may be what an API means. We found no option of either's configuration against it. The price of highwater's way: an
   API whose pages really are on two hosts cannot be read.""",
    "looped": """Each page names the same next token. dlt's `add_limit` bounds the number of pages; otherwise we found no
   option in either that notices a token that does not change.""",
    "told_to_wait": """The second of three pages is refused for six seconds, and `Retry-After` says how long. airbyte-cdk has
   `WaitTimeFromHeader` here, which reads numbers only, as does `WaitUntilTimeFromHeader`; for a date it falls back on its
   usual pauses.""",
    "tied": """25 records, of which the last four have the same `updated_at`. After a first run come three more records with
   that value and five newer ones; then two more runs, each of which asks from the highest value on. dlt remembers what it has
   at the boundary, as highwater does. airbyte-cdk leaves it to the destination to tell the rows apart, which with `append`
   it cannot.""",
    "numbers": """One kind of value in each of eight runs: the largest integers of 64 bits, signed and unsigned, one of 30
   digits, `0.1`, a decimal with 19 digits, the number 7 before the text `007`, the numbers 1, 1.5 and 2, and `1e400`. A value
   counts as the same if it is the same text or exactly the same number, which may be stored as text. For dlt,
   the column was then declared as text, and the parser `simplejson` chosen. What it refuses while it loads stays in its pipeline, where each
   following run tries it again, until somebody removes it. Both peers make floats of numbers with a decimal point before any
   option of theirs sees them.""",
    "bombed": """A body of 200 KiB that unpacks to 200 MiB: one record with one long text. highwater refuses it beyond
   `max_page_bytes`, 32 MiB unless it is set, so a record of that size, if it was meant, is not stored. The peers store it;
   we found no option of theirs that bounds it.""",
}

PAGE = """# What others do under the same faults

Ten faults from [faults.md](faults.md), by which data, keys or time are lost. The same server plays them to highwater and
to two programs that do the same job: [dlt](https://dlthub.com) and Airbyte's
[connector development kit](https://docs.airbyte.com/platform/connector-development). This page is written by
`tests/peers/run` from what it measures; only the explanations are typed by hand.

Run on {date} on {system} with Python {python}: {versions}.

{table}

| word | meaning |
|---|---|
{legend}

## How it is judged

From outside, and for all three by the same rules: the rows in the database against the records that the server holds, the exit
code, the server's log of requests, and what a second run does once the fault is gone. The server sends exactly
the bytes that a script says. Everything ran {place}, with telemetry
switched off. Retries and waits have their defaults. Each peer is configured the way its documentation shows for such an API:

- **dlt**: its `rest_api` source, `merge` or `append` with a primary key and an incremental cursor, into SQLite by its
  `sqlalchemy` destination. An exception ends it with exit code 1.
- **airbyte-cdk**: a declarative manifest, read by `source-declarative-manifest`. A destination is no part of the CDK; ours
  stores rows in SQLite, by their key for `append_dedup` (`merge` in the table), and commits them together with the state message
  that follows them. State is handed to the next run as Airbyte does.

Where a peer falls short by default and we found an option against it, that was tried, too, and is named in the table.

What this page is not: a comparison of everything. The faults were chosen by those who wrote highwater, from those that it is
tested against; others would choose others. It says nothing of speed, and highwater writes one kind of destination, while
both peers have many, and connectors for hundreds of APIs.

## The faults

{notes}

## The configurations

For the second fault; the others differ in what the fault is about.

highwater:

```toml
{highwater}
```

dlt:

```json
{dlt}
```

airbyte-cdk:

```json
{airbyte}
```

## Run it

```sh
cargo build --release --locked
tests/peers/run                     # or HIGHWATER=PROGRAM tests/peers/run
tests/peers/run html cut            # only these, without writing this page
```

It needs Linux, Python 3.10 or later with `venv`, and PyPI; everything is installed into a temporary folder. It takes six to ten
minutes. What cannot be installed is named and left out, and then this page stays as it was. Numbers of requests and of
memory are rounded down to two digits.
"""
