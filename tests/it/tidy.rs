//! The house rules that no compiler checks, held against the source tree itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Workspace;

/// A module may use those below it, never those above it or beside it.
const LAYERS: [&[&str]; 15] = [
    &["main"],
    &["cli", "fuzzing"],
    &["supervisor"],
    &["daemon"],
    &["plan"],
    &["config"],
    &["web"],
    &["sync"],
    &["verify", "practice"],
    &["source", "processor"],
    &["rest", "decode", "destination"],
    &["board"],
    &["progress", "tasks"],
    &["page", "template", "expression", "schedule"],
    &["secret", "units", "exit", "notify", "sabotage"],
];

/// Modules that may not use each other even though one is below the other: what reads and what writes know only
/// `page`, and the command line leaves HTTP to others.
const STRANGERS: [(&str, &str); 6] = [
    ("source", "destination"),
    ("source", "processor"),
    ("processor", "rest"),
    ("cli", "rest"),
    ("cli", "processor"),
    ("config", "sync"),
];

/// The judges: they must not share a mistake with what they judge, so they use nothing of it.
const JUDGES: [&str; 2] = ["verify", "practice"];

/// Lines of a file without its tests; beyond it a file has two subjects.
const LINES_MAX: usize = 400;

/// Files that are longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the project, by its path from the root.
pub(crate) fn files() -> Vec<(String, String)> {
    const TEXT: [&str; 12] =
        ["rs", "toml", "md", "json", "yml", "yaml", "sh", "service", "timer", "sql", "html", "lock"];
    let mut folders = vec![root().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.extend((name != "target" && name != ".git").then_some(path));
            } else if name == ".git" {
                // A file in a second working tree of a repository.
            } else if path.extension().is_none_or(|extension| TEXT.contains(&extension.to_str().unwrap())) {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                files.push((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// A file of src: its module path, and its code without comments and without tests.
struct Source {
    path: String,
    modules: Vec<String>,
    code: String,
}

fn sources() -> Vec<Source> {
    let files = files().into_iter().filter(|(path, _)| path.starts_with("src/"));
    let files = files.filter(|(path, _)| !path.split('/').any(|part| part == "tests" || part == "tests.rs"));
    let files = files.filter(|(path, _)| path.ends_with(".rs"));
    let sources = files.map(|(path, text)| {
        let module = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
        let modules = module.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
        Source { code: code(&text), path, modules }
    });
    sources.collect()
}

/// The lines that are neither comments nor under `#[cfg(test)]`.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // The item ends where its first brace closes, or with a semicolon before any.
            let (mut depth, mut opened) = (0_i64, false);
            for line in lines.by_ref() {
                depth += line.matches('{').count() as i64 - line.matches('}').count() as i64;
                opened |= line.contains('{');
                if (opened && depth <= 0) || (!opened && line.trim_end().ends_with(';')) {
                    break;
                }
            }
        } else if !line.trim_start().starts_with("//") {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// The modules of this crate that a piece of code names.
fn named(source: &Source) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let from_the_root = format!("{}super::", "super::".repeat(source.modules.len().saturating_sub(1)));
    let this_crate = if source.path == "src/main.rs" { "highwater::" } else { "crate::" };
    for prefix in [this_crate, &from_the_root] {
        for (at, _) in source.code.match_indices(prefix) {
            if source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &source.code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(heads(group)),
                None => names.extend(head(rest)),
            }
        }
    }
    names
}

fn head(text: &str) -> Option<String> {
    let head: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!head.is_empty()).then_some(head)
}

/// The first names of `a::b, c::{d, e}, f}`.
fn heads(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.extend(head(&group[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn a_module_uses_only_what_is_below_it() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path != "src/lib.rs") {
        let own = &*source.modules[0];
        let own_layer = layer(own).unwrap_or_else(|| panic!("{} has no place in LAYERS", source.path));
        for other in named(source).iter().filter(|other| *other != own) {
            let Some(other_layer) = layer(other) else {
                wrong.push(format!("{} names crate::{other}, which is no module", source.path));
                continue;
            };
            if other_layer <= own_layer {
                wrong.push(format!("{}: `{own}` may not use `{other}`, which is not below it", source.path));
            }
            if STRANGERS.contains(&(own, other)) {
                wrong.push(format!("{}: `{own}` and `{other}` do not know each other", source.path));
            }
            if JUDGES.contains(&own) {
                wrong.push(format!("{}: `{own}` judges the others and may not use `{other}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_import_rule_sees_what_it_has_to_see() {
    let source = |path: &str, modules: &[&str], text: &str| Source {
        path: path.to_owned(),
        modules: modules.iter().map(|&module| module.to_owned()).collect(),
        code: code(text),
    };
    for (path, modules, text, expected) in [
        ("src/a.rs", &["a"][..], "use crate::b::C;\nfn f() { crate::d::e() }", &["b", "d"][..]),
        ("src/a.rs", &["a"], "use crate::{b::{C, D}, e, f::g};", &["b", "e", "f"]),
        ("src/a.rs", &["a"], "use super::b; pub(in crate::c) fn f() {}", &["b", "c"]),
        ("src/a/b.rs", &["a", "b"], "use super::c; use super::super::d;", &["d"]),
        (
            "src/a.rs",
            &["a"],
            "// crate::b\n#[cfg(test)]\nmod tests {\n    use crate::c;\n    fn f() {}\n}\nuse crate::d;",
            &["d"],
        ),
        ("src/a.rs", &["a"], "#[cfg(test)]\nmod tests;\nuse crate::d;", &["d"]),
        ("src/main.rs", &["main"], "use highwater::cli::{self, Cli};", &["cli"]),
    ] {
        let found: Vec<String> = named(&source(path, modules, text)).into_iter().collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn only_one_file_spawns() {
    let words =
        ["tokio::spawn", "task::spawn", "thread::spawn", "spawn_blocking", "spawn_local", "JoinSet", "thread::Builder"];
    for source in sources().iter().filter(|source| source.path != "src/tasks.rs") {
        for word in words {
            assert!(!source.code.contains(word), "{} has `{word}`: use tasks::TaskGroup", source.path);
        }
    }
}

/// A transaction that reads first and writes then can find that another one has written meanwhile; SQLite does not wait
/// in that case.
#[test]
fn d02_whoever_writes_takes_the_lock_at_the_beginning() {
    // The one place where it is taken, and the connection that can only read.
    let places =
        [("src/destination/sqlite.rs", "Transaction::new"), ("src/destination/view.rs", "unchecked_transaction")];
    for source in sources().iter().filter(|source| !JUDGES.contains(&&*source.modules[0])) {
        for word in [".transaction(", "unchecked_transaction", "Transaction::new", "Behavior::Deferred", "\"BEGIN"] {
            let is_excused = places.contains(&(&*source.path, word));
            assert!(is_excused || !source.code.contains(word), "{} has `{word}`: use sqlite::begin", source.path);
        }
    }
}

#[test]
fn no_file_has_grown_beyond_its_subject() {
    let mut wrong = Vec::new();
    for source in sources() {
        let text = std::fs::read_to_string(root().join(&source.path)).unwrap();
        let tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let lines = text[..tests].lines().count();
        let excused = LONGER.iter().any(|(path, _)| *path == source.path);
        if (lines > LINES_MAX) != excused {
            let why = if excused { "needs no exception any more" } else { "is longer than that" };
            wrong.push(format!("{}: {lines} lines {why}", source.path));
        }
    }
    assert!(wrong.is_empty(), "at most {LINES_MAX} lines: {wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in files() {
        if path.ends_with(".rs") && path != "src/lib.rs" && !path.contains("/tests") || path.starts_with("tests/it/") {
            assert!(text.starts_with("//! "), "{path} does not begin with what it is for");
        }
    }
}

#[test]
fn every_test_file_is_run() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for (path, _) in files() {
        let Some(name) = path.strip_prefix("tests/it/").and_then(|name| name.strip_suffix(".rs")) else { continue };
        if name != "main" && !name.contains('/') {
            assert!(main.contains(&format!("mod {name};")), "{path} is not in tests/it/main.rs");
        }
    }
}

/// The example and the pages of docs/: where a user looks for an option.
fn documentation() -> String {
    let files = files().into_iter();
    let files = files.filter(|(path, _)| path == "config.toml" || (path.starts_with("docs/") && path.ends_with(".md")));
    files.map(|(_, text)| text).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside))
}

#[test]
fn every_option_and_every_accepted_word_is_documented() {
    fn collect(schema: &Value, words: &mut BTreeSet<String>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            words.extend(properties.keys().cloned());
        }
        words.extend(schema.get("const").and_then(Value::as_str).map(str::to_owned));
        match schema {
            Value::Object(map) => map.values().for_each(|value| collect(value, words)),
            Value::Array(list) => list.iter().for_each(|value| collect(value, words)),
            _ => {}
        }
    }
    let schema: Value = serde_json::from_str(include_str!("../../config.schema.json")).unwrap();
    let mut words = BTreeSet::new();
    collect(&schema, &mut words);
    assert!(words.len() > 80, "only {words:?}");
    let documentation = documentation();
    let missing: Vec<&String> = words.iter().filter(|word| !has_word(&documentation, word)).collect();
    assert!(missing.is_empty(), "neither in config.toml nor in docs/: {missing:?}");
}

/// Command lines that a text shows: in code blocks, in code spans, and in the comments of config.toml.
fn commands(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let spans = line.split('`').skip(1).step_by(2);
        found.extend(spans.map(|span| span.trim().to_owned()));
        let shown = match path.ends_with(".md") {
            true if in_block => line,
            true => continue,
            false => line.strip_prefix("#  ").unwrap_or_default(),
        };
        found.push(shown.trim().trim_start_matches("$ ").to_owned());
    }
    let only_ours = |command: String| {
        let words = command.split_whitespace().skip_while(|word| word.contains('='));
        let words: Vec<&str> = words.take_while(|word| !["#", "|", ">", "&&", "&", ";"].contains(word)).collect();
        let words = match words.iter().position(|word| *word == "--") {
            Some(end) if words.starts_with(&["cargo", "run"]) => [&["highwater"], &words[end + 1..]].concat(),
            _ => words,
        };
        (words.len() > 1 && words[0] == "highwater").then(|| words.join(" "))
    };
    found.into_iter().filter_map(only_ours).collect()
}

#[test]
fn every_command_that_is_shown_exists() {
    let workspace = Workspace::new();
    let overview = workspace.run(&["--help"]).stdout;
    let mut shown = 0;
    for (path, text) in files() {
        let is_public = path == "config.toml" || path == "README.md" || path.starts_with("docs/");
        for command in commands(&path, &text).into_iter().filter(|_| is_public) {
            let mut words = command.split(' ').skip(1).skip_while(|word| word.starts_with('-'));
            let Some(verb) = words.next().filter(|verb| verb.chars().all(|c| c.is_ascii_lowercase())) else { continue };
            shown += 1;
            assert!(overview.contains(&format!("\n  {verb} ")), "{path} shows `{command}`, and there is no `{verb}`");
            let help = workspace.run(&[verb, "--help"]).stdout;
            for flag in command.split(' ').filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(has_word(&help, flag), "{path} shows `{command}`, and `{verb}` has no {flag}");
            }
        }
    }
    assert!(shown >= 3, "only {shown} commands are shown anywhere");
}

#[test]
fn commands_are_found_where_they_are_shown() {
    let text = "Run `highwater demo`, or:\n```\n$ highwater sync --json | jq .\nTOKEN=x highwater check\ncargo run --release -- demo\n```\nhighwater keeps";
    assert_eq!(
        commands("README.md", text),
        ["highwater demo", "highwater sync --json", "highwater check", "highwater demo"]
    );
    assert_eq!(
        commands("config.toml", "# highwater keeps\n#     highwater practice   a shop"),
        ["highwater practice a shop"]
    );
}

#[test]
fn every_query_that_is_shown_for_the_demo_finds_something() {
    let workspace = Workspace::new();
    assert_eq!(workspace.run(&["demo", "--fast"]).code, Some(0));
    let db = rusqlite::Connection::open(workspace.path("demo.db")).unwrap();
    let mut shown = 0;
    for (path, text) in files().into_iter().filter(|(path, _)| path.ends_with(".md")) {
        for line in text.lines() {
            let Some((_, query)) = line.split_once("sqlite3 demo.db '") else { continue };
            let query = query.split('\'').next().unwrap();
            let found = db.prepare(query).and_then(|mut statement| statement.exists([]));
            assert_eq!(found, Ok(true), "{path} shows {query}");
            shown += 1;
        }
    }
    assert!(shown > 0, "no query is shown");
}

#[test]
fn both_licences_are_there() {
    for (file, words) in [("LICENSE-MIT", "Permission is hereby granted"), ("LICENSE-APACHE", "Apache License")] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains(words), "{file} is not that licence");
    }
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("license = \"MIT OR Apache-2.0\""));
}

#[test]
fn nothing_is_left_lying_about() {
    // Written in two halves, so that this file is not what it finds.
    let unfinished = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["dbg", "!("], ["unimplemented", "!("]];
    let machines = [["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"], ["/t", "mp/"], ["/mn", "t/"]];
    let mut wrong = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| path != "Cargo.lock") {
        for word in unfinished.iter().map(|halves| halves.concat()) {
            let found = if word.ends_with('(') { text.contains(&word) } else { has_word(text, &word) };
            if found {
                wrong.push(format!("{path} has {word}"));
            }
        }
        for word in machines.iter().map(|halves| halves.concat()) {
            if text.contains(&word) {
                wrong.push(format!("{path} names a path of some machine: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
