//! The broken variants of src/sabotage.rs: that each has tests which are there, and that docs/teeth.md lists them.
//! That these tests catch it is what `tests/teeth/run` shows.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::faults::test_names;
use crate::tidy::files;

/// What is broken nowhere.
const NOTHING: &str = "Nothing";

/// What breaks no promise: a test chooses it for itself.
const HARMLESS: [&str; 2] = [NOTHING, "PagesPanic"];

/// Each variant of `Sabotage`, and what its comment says that it breaks.
fn variants(source: &str) -> Vec<(String, String)> {
    let body = source.split("enum Sabotage {").nth(1).unwrap().split("\n}").next().unwrap();
    let mut comment = Vec::new();
    let mut variants = Vec::new();
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("#[")) {
        match line.strip_prefix("/// ") {
            Some(text) => comment.push(text),
            None => variants.push((line.trim_end_matches(',').to_owned(), std::mem::take(&mut comment).join(" "))),
        }
    }
    variants
}

/// The page, as the files have it.
fn page(files: &BTreeMap<String, String>) -> String {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        for name in test_names(text) {
            places.entry(name).or_default().push(path);
        }
    }
    let caught_by: BTreeMap<&str, Vec<&str>> = files["tests/teeth/variants"]
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.collect())
        })
        .collect();
    let variants = variants(&files["src/sabotage.rs"]);
    let named: Vec<&str> =
        variants.iter().map(|(name, _)| name.as_str()).filter(|name| !HARMLESS.contains(name)).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    assert_eq!(caught_by.keys().copied().collect::<Vec<_>>(), sorted, "tests/teeth/variants and src/sabotage.rs");
    let mut page = format!(
        "# Teeth\n\nTests that pass say little until they have been seen to fail. So highwater can be broken on purpose, in {} \
         ways that are easily\ntaken by mistake and hard to notice, and a script shows that the tests catch each of them:\n\n\
         ```sh\ntests/teeth/run                    # all of them\ntests/teeth/run LoopGuardOff       # some of them\n```\n\n\
         It builds highwater with the cargo feature `sabotage`, which no release enables; the variable `SABOTAGE` then names \
         what is broken.\nFirst the tests run with `Nothing` broken, and have to pass: what fails after that fails because of \
         the variant. Then **every test\nthat is named here has to fail**. Tests that cannot run, because a tool is not \
         installed, are named. All of this is part of `.ci/run`,\nwhich also looks into the release: nothing of it is in there.\n\n\
         This page is written by `tests/it/teeth.rs` from `src/sabotage.rs` and `tests/teeth/variants`; `cargo test` fails when \
         it is not\nwhat they say.\n\n| variant | what is broken | caught by |\n|---|---|---|\n",
        named.len(),
    );
    for (name, broken) in variants.iter().filter(|(name, _)| !HARMLESS.contains(&name.as_str())) {
        let tests = &caught_by[name.as_str()];
        assert!(!tests.is_empty(), "no test catches {name}");
        let links = tests.iter().map(|test| match places.get(*test).map(Vec::as_slice) {
            Some([file]) => format!("[`{test}`](../{file})"),
            found => panic!("{name} names the test {test}, which is in {found:?}"),
        });
        writeln!(page, "| `{name}` | {broken} | {} |", links.collect::<Vec<_>>().join("<br>")).unwrap();
    }
    page
}

#[test]
fn every_broken_variant_has_tests_that_are_there_and_the_page_lists_them() {
    let files: BTreeMap<String, String> = files().into_iter().collect();
    let page = page(&files);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/teeth.md");
    if std::env::var_os("UPDATE_TEETH").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/teeth.md is out of date: UPDATE_TEETH=1 cargo test --test it teeth writes it anew");
}

#[test]
fn every_broken_variant_breaks_something() {
    let files = files();
    for (name, _) in variants(&files.iter().find(|(path, _)| path == "src/sabotage.rs").unwrap().1) {
        let call = format!("on(Sabotage::{name})");
        let places = files.iter().filter(|(path, text)| path.starts_with("src/") && text.contains(&call));
        assert_eq!(places.count() == 0, name == NOTHING, "{name}");
    }
}
