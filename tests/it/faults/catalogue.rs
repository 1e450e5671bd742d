//! The faults that ingestion over HTTP meets, one line each: what goes wrong, and what highwater makes of it.

/// How it is known that the answer to a fault is what it is said to be.
pub(super) enum Proof {
    /// By the tests that have its number in their names.
    Tests,
    /// It is no fault of this program, or cannot be brought about here: the reason.
    Reason(&'static str),
}

use Proof::{Reason, Tests};

pub(super) struct Fault(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str, pub(super) Proof);

pub(super) const GROUPS: [(char, &str, &[Fault]); 9] = [
    ('n', "Network", &NETWORK),
    ('h', "Statuses, limits, credentials", &STATUSES),
    ('b', "Bodies", &BODIES),
    ('p', "Pagination", &PAGINATION),
    ('i', "Incremental reads", &INCREMENTAL),
    ('s', "Schemas and keys", &SCHEMAS),
    ('d', "The database file", &DATABASE),
    ('x', "Processes and time", &PROCESSES),
    ('c', "Configuration and secrets", &CONFIGURATION),
];

const NO_POSTGRES: Proof = Reason("highwater writes SQLite files only, in its own process");

const NETWORK: [Fault; 18] = [
    Fault(
        "n01",
        "The connection is refused",
        "Tries again with growing pauses, then fails and names the address",
        Tests,
    ),
    Fault("n02", "Nobody answers the connection", "Gives up after `connect_timeout` and tries again", Tests),
    Fault(
        "n03",
        "A reset before the answer, or on a connection kept open",
        "Sends the request again; a dead kept connection costs no attempt",
        Tests,
    ),
    Fault("n04", "A reset within the body", "Asks for the page again", Tests),
    Fault(
        "n05",
        "Silence after the headers or before them",
        "Ends at `read_timeout` or `timeout`, and tries again",
        Tests,
    ),
    Fault("n06", "A body that arrives byte by byte", "Ends at `timeout`, which counts for the whole response", Tests),
    Fault(
        "n07",
        "A kept connection whose other end has vanished",
        "Ends at the time limit and goes on over a new connection",
        Tests,
    ),
    Fault("n08", "A name that does not resolve", "Tries again, then fails and names the host", Tests),
    Fault(
        "n09",
        "A name that suddenly resolves to a private address",
        "Is not followed where the name led to the internet before, and never to link-local addresses",
        Tests,
    ),
    Fault("n10", "Two address families, of which one is broken", "Takes the next address", Tests),
    Fault("n11", "A certificate that nobody vouches for", "Fails at once; no option turns the check off", Tests),
    Fault("n12", "Plain HTTP where TLS should be", "Fails at once and says so", Tests),
    Fault(
        "n13",
        "The page of a captive portal",
        "Is no page: asked for twice more, then a failure that says HTML",
        Tests,
    ),
    Fault("n14", "A stray `HTTP_PROXY` in the environment", "Is ignored", Tests),
    Fault(
        "n15",
        "A proxy that refuses or dies",
        "Uses no proxy",
        Reason("there are no proxies in the configuration, and those of the environment are ignored (n14)"),
    ),
    Fault("n16", "Bytes that are no HTTP, or two lengths", "Asked for twice more, then a failure", Tests),
    Fault("n17", "Headers without end", "Ends at the limit of the headers or of time", Tests),
    Fault("n18", "HTTP/2 streams that are refused or reset", "Tries again like after any reset", Tests),
];

const STATUSES: [Fault; 17] = [
    Fault(
        "h01",
        "429 with `Retry-After`",
        "All requests of the budget wait as long as asked; no attempt is counted",
        Tests,
    ),
    Fault(
        "h02",
        "`Retry-After` as a date",
        "Is reckoned by the server's clock; a time that has passed is no delay",
        Tests,
    ),
    Fault(
        "h03",
        "`Retry-After` as seconds or milliseconds since 1970",
        "Is read as that where it is near the present",
        Tests,
    ),
    Fault(
        "h04",
        "`Retry-After` that is negative, huge, zero or no number",
        "Is left out of account: the usual pauses, and the attempt counts",
        Tests,
    ),
    Fault(
        "h05",
        "A wait of hours",
        "Ends the run as incomplete; nothing is sent before the time, over restarts too",
        Tests,
    ),
    Fault(
        "h06",
        "429 without a header, or a quota that resets",
        "Reads the reset in all its forms, else the usual pauses",
        Tests,
    ),
    Fault("h07", "403 as a rate limit", "Is one where headers or a response action say so, else a refusal", Tests),
    Fault(
        "h08",
        "5xx, for all pages or for one",
        "Tries again, then fails at that page; no page is passed over",
        Tests,
    ),
    Fault(
        "h09",
        "401 in the middle of a run",
        "One renewal for all who wait, one replay; a second 401 fails the read",
        Tests,
    ),
    Fault("h10", "200 with HTML", "Is no page: asked for twice more, then a failure", Tests),
    Fault("h11", "200 with an error in the body", "Is no empty page; response actions can say more about it", Tests),
    Fault("h12", "204 or an empty body", "Is the end only where a response action or the format says so", Tests),
    Fault(
        "h13",
        "4xx in the middle of a read",
        "Fails the read; the next run starts over. A stored position is given up in the same run",
        Tests,
    ),
    Fault("h14", "304", "Nothing is written, the table and the checkpoint stay, the run is in the books", Tests),
    Fault(
        "h15",
        "A redirect, elsewhere or in circles",
        "Is followed on the same origin, five times at most; nothing is sent elsewhere",
        Tests,
    ),
    Fault("h16", "206, 304 unasked, 999", "Fails at once as not expected", Tests),
    Fault(
        "h17",
        "An API that fails for everybody at once",
        "Each request has its attempts and no more, and all leave by the same budget",
        Tests,
    ),
];

const BODIES: [Fault; 19] = [
    Fault("b01", "A body shorter than announced, chunks without an end", "Asked for again", Tests),
    Fault("b02", "A length that is too short", "The cut body is no page and is asked for again", Tests),
    Fault(
        "b03",
        "A body that ends with the connection",
        "Is taken only where the format proves that it is whole",
        Tests,
    ),
    Fault("b04", "Broken gzip", "Asked for again, uncompressed", Tests),
    Fault(
        "b05",
        "gzip of several members, or with garbage behind it",
        "All members are read; garbage is an error",
        Tests,
    ),
    Fault("b06", "A gzip bomb", "`max_page_bytes` counts what comes out, and ends it at once", Tests),
    Fault("b07", "A body without end", "Ends at `max_page_bytes`", Tests),
    Fault(
        "b08",
        "A byte order mark, another encoding",
        "The mark is no part of the page; another encoding is no page",
        Tests,
    ),
    Fault(
        "b09",
        "NaN, Infinity, 1e400",
        "Is no page, as JSON has no such numbers; a huge number is kept as written",
        Tests,
    ),
    Fault("b10", "Integers beyond 64 bits", "Are kept exactly, as text where they do not fit", Tests),
    Fault("b11", "Decimals", "Are the nearest double if that prints the same, else their own text", Tests),
    Fault("b12", "A key that comes twice in a record", "The record is set aside", Tests),
    Fault(
        "b13",
        "Invalid UTF-8, half a surrogate pair",
        "Is never mended: such bytes are no page, and half a pair sets its record aside",
        Tests,
    ),
    Fault(
        "b14",
        "Nesting without end",
        "Records deeper than 64 levels are set aside; no depth ends the process",
        Tests,
    ),
    Fault("b15", "A NUL in a text", "Is stored with what follows it", Tests),
    Fault("b16", "A record larger than a row may be", "Is set aside with its beginning", Tests),
    Fault("b17", "A record that is no object", "Is set aside", Tests),
    Fault("b18", "No list where the records should be", "Is an error; an empty list is a page", Tests),
    Fault("b19", "Empty keys, very many keys, keys in another order", "Are legal", Tests),
];

const PAGINATION: [Fault; 15] = [
    Fault("p01", "The same token again", "Fails as a circle; behind an empty page it is the end", Tests),
    Fault("p02", "Tokens that go round", "Fails at the first one that was there before", Tests),
    Fault("p03", "New tokens for ever, the same page each time", "Fails: these very records came before", Tests),
    Fault(
        "p04",
        "A next link that is relative, or begins with `//`",
        "Is joined to the URL of the request (RFC 3986)",
        Tests,
    ),
    Fault("p05", "A next link to another host or scheme", "Is refused, and nothing is sent there", Tests),
    Fault(
        "p06",
        "A next link that repeats the key",
        "The key is stripped, sent again once, and neither stored nor shown",
        Tests,
    ),
    Fault(
        "p07",
        "More is promised, but the page is empty",
        "Goes on over empty pages; three in a row are an error",
        Tests,
    ),
    Fault(
        "p08",
        "Signs that contradict each other",
        "An end before the announced total is a failure, and so is more without a next page",
        Tests,
    ),
    Fault(
        "p09",
        "The limit is not kept to",
        "Goes on by what really came; a short page is an end only if declared",
        Tests,
    ),
    Fault("p10", "A last page that is exactly full", "One more request, and no row twice", Tests),
    Fault(
        "p11",
        "Rows come and go while pages are counted",
        "Repeats are one row by their key; what was passed over comes with the next full read",
        Tests,
    ),
    Fault("p12", "The total changes on the way", "The latest one counts", Tests),
    Fault(
        "p13",
        "A token that expires during a wait",
        "Fails the read; the next run starts over and takes every row",
        Tests,
    ),
    Fault(
        "p14",
        "A restart with a stored position",
        "Goes on there while it is younger than `resume_within`, else starts over",
        Tests,
    ),
    Fault(
        "p15",
        "More rows of one moment than fit on a page",
        "The cursor passes no row of that moment, interrupted or not",
        Tests,
    ),
];

const INCREMENTAL: [Fault; 10] = [
    Fault("i01", "Equal values where two reads meet", "Are neither lost nor doubled, with a key or without", Tests),
    Fault(
        "i02",
        "Records out of order",
        "The cursor moves at the end of the read only; where an order is declared it is checked",
        Tests,
    ),
    Fault("i03", "Records that come late", "Are taken within `lag`", Tests),
    Fault(
        "i04",
        "A record from the future",
        "Is stored, and the cursor does not follow it; where `step` is set it waits for its time. It hides nothing",
        Tests,
    ),
    Fault("i05", "Records without a cursor", "Fail the read, or are taken, or left out, as configured", Tests),
    Fault(
        "i06",
        "Times of all notations and zones",
        "Are compared as what they mean; the text is kept as it came",
        Tests,
    ),
    Fault("i07", "A cursor of another kind than before", "Fails the read", Tests),
    Fault("i08", "Nothing new", "A complete run, the cursor stays", Tests),
    Fault("i09", "Values that lose digits on the way", "What is sent is the text that came", Tests),
    Fault("i10", "An API that ignores the filter", "Nothing is lost or doubled", Tests),
];

const SCHEMAS: [Fault; 13] = [
    Fault("s01", "A new field", "Gets its column in the transaction of its page", Tests),
    Fault("s02", "A field of changing type", "A value that does not fit its column is kept exactly beside it", Tests),
    Fault("s03", "Keys that differ in case only", "Get a column each", Tests),
    Fault("s04", "Keys in any script and normal form", "Get a column each", Tests),
    Fault("s05", "Thousands of keys", "Beyond 500 columns they are kept in `_extra`", Tests),
    Fault("s06", "Keys that look like SQL", "Are never read as SQL", Tests),
    Fault("s07", "Keys called like columns of highwater", "Get another name", Tests),
    Fault("s08", "A record without its primary key", "Is set aside", Tests),
    Fault("s09", "Keys 1 and \"1\"", "Fail the read instead of making two rows of one", Tests),
    Fault("s10", "The same key twice on a page", "One row, the last version", Tests),
    Fault("s11", "A key that does not tell records apart", "Fails the read", Tests),
    Fault("s12", "A field that vanishes", "Becomes NULL; its column stays", Tests),
    Fault("s13", "More values than a statement has places", "Are stored", Tests),
];

const DATABASE: [Fault; 17] = [
    Fault("d01", "Another program holds the file", "Waits for it, then fails the run and loses nothing", Tests),
    Fault(
        "d02",
        "A reading transaction that turns into a writing one",
        "Does not exist: whoever writes takes the lock first",
        Tests,
    ),
    Fault(
        "d03",
        "The disk is full, or a quota is used up",
        "A sync ends with 74 and the next one goes on where it stopped; the daemon waits for room and goes on",
        Tests,
    ),
    Fault(
        "d04",
        "The disk fails",
        "Ends with 74 at the first error and reports no success; the next run goes on",
        Tests,
    ),
    Fault("d05", "A place that cannot be written", "Ends with 74 before anything is asked for", Tests),
    Fault("d06", "A damaged file", "Is named, left alone, and how to save it is said", Tests),
    Fault(
        "d07",
        "A reader that keeps the WAL from being moved",
        "Writing goes on; the WAL is short again when the reader is done",
        Tests,
    ),
    Fault(
        "d08",
        "The file is moved or removed under the daemon",
        "It ends with 74 instead of writing into nowhere",
        Tests,
    ),
    Fault("d09", "The process opens its own file and loses its locks", "Nothing but SQLite opens it", Tests),
    Fault(
        "d10",
        "A copy while it is written",
        "`sqlite3 FILE \".backup COPY\"` is whole and can be gone on with",
        Tests,
    ),
    Fault(
        "d11",
        "A network file system",
        "Ends with 78 before the file is made, unless the configuration takes it on itself",
        Tests,
    ),
    Fault(
        "d12",
        "A file of another version",
        "A newer one is refused and left as it is, an older one brought up once",
        Tests,
    ),
    Fault("d13", "Files and tables of others", "Are refused and left as they are", Tests),
    Fault("d14", "Users change our tables", "What they add stays, and the books stay right", Tests),
    Fault("d15", "A connection lost during COMMIT", "Cannot happen", NO_POSTGRES),
    Fault("d16", "A replica that lags behind", "Cannot happen", NO_POSTGRES),
    Fault(
        "d17",
        "The power fails",
        "All that was committed is there; with `synchronous = \"normal\"` all but the last commits",
        Tests,
    ),
];

const PROCESSES: [Fault; 15] = [
    Fault("x01", "kill -9 at any moment", "The next start goes on: no row lost, none doubled", Tests),
    Fault(
        "x02",
        "SIGTERM in the middle of a page",
        "What was received is stored, and the next run goes on at the next page",
        Tests,
    ),
    Fault("x03", "A second signal", "Ends at once", Tests),
    Fault("x04", "A reload of a broken configuration", "The old one stays, and the log says so", Tests),
    Fault("x05", "A panic", "Ends neither the daemon nor the other runs; what was not committed is rolled back", Tests),
    Fault(
        "x06",
        "Clocks that jump, days of 23 and 25 hours",
        "Intervals go by the time that passes, and nothing daily is left out or comes twice",
        Tests,
    ),
    Fault("x07", "A machine that slept", "One run makes up for what was missed", Tests),
    Fault("x08", "Two instances on one file", "The second one ends with 73 and names the first", Tests),
    Fault("x09", "An instance that came around the lock", "The one that lost its resource stores nothing more", Tests),
    Fault("x10", "A daemon that hangs", "The watchdog hears only of a scheduler and a writer that answered", Tests),
    Fault("x11", "A log that nobody reads", "Holds up nothing and ends nothing", Tests),
    Fault("x12", "A flood of log lines", "The queue is bounded; what it cannot hold is lost and counted", Tests),
    Fault("x13", "No file descriptors left", "An error that may pass; the next run goes on", Tests),
    Fault("x14", "Failures again and again", "Rest for longer each time, over restarts too", Tests),
    Fault("x15", "Another version of the binary", "A file of an earlier version is brought up once", Tests),
];

const CONFIGURATION: [Fault; 10] = [
    Fault("c01", "A misspelt key", "Is refused, with the right one, at every level", Tests),
    Fault("c02", "Missing variables and secrets", "All of them are reported at once; empty is missing", Tests),
    Fault(
        "c03",
        "Values of variables that look like configuration",
        "Are the value of that one string and nothing else",
        Tests,
    ),
    Fault("c04", "Schedules, limits and names that make no sense", "Are refused with file, line and column", Tests),
    Fault("c05", "A secret in the file", "Is refused and not repeated", Tests),
    Fault(
        "c06",
        "A secret file that others can read",
        "Is refused; a newline at its end is no part of the secret",
        Tests,
    ),
    Fault("c07", "Secrets in outputs and files", "None, however they are written", Tests),
    Fault("c08", "A resource becomes another one", "Is refused alone, until it is reset", Tests),
    Fault("c09", "`check` is content and `sync` is not", "Both say the same in the same words", Tests),
    Fault("c10", "A configuration that is half written", "Does not parse, and the old one stays", Tests),
];
