//! What goes wrong out there: the catalogue of faults, its page in docs/ held against the tests that are there, and the
//! tests of those faults that belong to no other subject.

mod catalogue;
mod network;
mod paging;
pub(crate) mod server;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use catalogue::{Fault, GROUPS, Proof};

use crate::support::{Workspace, finish};

const PAGE: &str = "docs/faults.md";

/// The tests that have numbers of faults in their names, under each number, with their files.
fn tests_by_fault() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests/it")];
    let mut found: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                for name in test_names(&std::fs::read_to_string(&path).unwrap()) {
                    for id in ids_of(&name) {
                        found.entry(id).or_default().insert((file.clone(), name.clone()));
                    }
                }
            }
        }
    }
    found
}

/// The names of the functions under `#[test]` or `#[tokio::test]`, whatever stands between.
pub(crate) fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let Some(name) = function.and_then(|rest| rest.split('(').next())
            && std::mem::take(&mut is_test)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// The faults that a name begins with: `n05_…`, `p01_p02_…`, `h02_to_h04_…`.
fn ids_of(name: &str) -> Vec<String> {
    let number = |part: &str| {
        let (group, digits) = part.split_at_checked(1)?;
        let is_id = GROUPS.iter().any(|(letter, ..)| group.starts_with(*letter)) && digits.len() == 2;
        digits.parse::<usize>().ok().filter(|_| is_id)
    };
    let mut ids: Vec<String> = Vec::new();
    let mut parts = name.split('_').peekable();
    while let Some(part) = parts.next() {
        if number(part).is_some() {
            ids.push(part.to_owned());
        } else if let ("to", Some(first), Some(last)) =
            (part, ids.last().and_then(|id| number(id)), parts.peek().and_then(|part| number(part)))
        {
            ids.extend((first + 1..last).map(|id| format!("{}{id:02}", &name[..1])));
        } else {
            break;
        }
    }
    ids
}

/// What `tests/faults/run --write` has put into a page, with the lines that it stands between.
fn figures(page: &str) -> &str {
    const ENDS: [&str; 2] = ["<!-- figures -->\n", "<!-- end of figures -->\n"];
    let [start, end] = ENDS.map(|line| page.find(line));
    start.zip(end).map_or("", |(start, end)| &page[start..end + ENDS[1].len()])
}

/// The page, with the figures that it had before.
fn page(before: &str) -> String {
    let tests = tests_by_fault();
    let faults = || GROUPS.iter().flat_map(|(.., faults)| faults.iter());
    let count = |is: fn(&Proof) -> bool| faults().filter(|Fault(.., proof)| is(proof)).count();
    let mut page = format!(
        "# What goes wrong, and what highwater does\n\n{} faults that reading APIs meets, most of them found in the issue lists of programs \
         like this one. **{} of them have\ntests that bear the number of the fault**; {} cannot be shown or do not concern it. This \
         page is written by\n`tests/it/faults.rs` from the names of the tests; `cargo test` fails when it is not what they say.\n\n\
         `tests/faults/run` runs the tests and counts: a fault is shown where all tests of its number have passed, and none \
         was skipped\nbecause of the machine. Its last outcome where this is written:\n\n{}",
        faults().count(),
        count(|proof| matches!(proof, Proof::Tests)),
        count(|proof| matches!(proof, Proof::Reason(_))),
        figures(before),
    );
    for (_, title, faults) in GROUPS {
        write!(page, "\n## {title}\n\n| | fault | what highwater does | test |\n|---|---|---|---|\n").unwrap();
        for Fault(id, fault, answer, proof) in faults {
            let proof = match proof {
                Proof::Tests => {
                    let names = tests.get(*id).into_iter().flatten();
                    names.map(|(file, name)| format!("[`{name}`](../{file})")).collect::<Vec<_>>().join("<br>")
                }
                Proof::Reason(reason) => format!("none: {reason}"),
            };
            writeln!(page, "| {} | {fault} | {answer} | {proof} |", id.to_uppercase()).unwrap();
        }
    }
    page
}

#[test]
fn every_fault_has_a_test_of_its_number_or_a_reason_to_have_none() {
    let mut tests = tests_by_fault();
    let mut wrong = Vec::new();
    for (letter, _, faults) in GROUPS {
        for (place, Fault(id, _, _, proof)) in faults.iter().enumerate() {
            assert_eq!(*id, format!("{letter}{:02}", place + 1), "the numbers have no gaps");
            match (proof, tests.remove(*id)) {
                (Proof::Tests, None) => wrong.push(format!("{id} has no test that bears its number")),
                (Proof::Reason(_), Some(names)) => {
                    wrong.push(format!("{id} needs no excuse: {names:?}"));
                }
                _ => {}
            }
        }
    }
    wrong.extend(tests.iter().map(|(id, names)| format!("there is no fault {id}, but {names:?}")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_page_on_faults_lists_the_tests_that_are_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        std::fs::write(&path, page(&before)).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        !figures(&written).is_empty() && written == page(&before),
        "{PAGE} is out of date: UPDATE_FAULTS=1 cargo test --test it faults writes it anew"
    );
}

#[test]
fn the_script_counts_a_fault_where_all_of_its_tests_have_passed_and_none_was_skipped() {
    let tests: BTreeSet<String> = tests_by_fault().into_values().flatten().map(|(_, name)| name).collect();
    let passed = |left_out: &str| -> String {
        let ran = tests.iter().filter(|name| *name != left_out);
        ran.map(|name| format!("test some::module::{name} ... ok\n")).collect()
    };
    let faults = GROUPS.iter().flat_map(|(.., faults)| faults.iter());
    let all = faults.filter(|Fault(.., proof)| matches!(proof, Proof::Tests)).count();
    // The only test of its fault.
    let name = "n02_connecting_has_a_limit_of_its_own";
    assert!(tests.contains(name));
    let words = |text: &str| format!("{}successes:\n\n---- a::{name} stdout ----\nfine\n{text}\n\n", passed(""));
    let whole = format!("{all} of {all} shown");
    let one_less = format!("{} of {all} shown", all - 1);
    for (log, code, said) in [
        (passed(""), 0, vec![whole.clone()]),
        (words("skipped: no tool"), 0, vec![one_less.clone(), format!("- N02, `{name}`: skipped: no tool")]),
        (words("skipped in part: root"), 0, vec![whole, format!("- N02, `{name}`: skipped in part: root")]),
        (passed(name), 1, vec![one_less.clone(), format!("wrong: N02: {name}: not run")]),
        (
            passed("") + &format!("test other::{name} ... FAILED\n"),
            1,
            vec![one_less.clone(), format!("wrong: N02: {name}: FAILED")],
        ),
        (
            passed(name) + &format!("test {name} ... ignored, slow\n"),
            1,
            vec![one_less, format!("wrong: N02: {name}: ignored, slow")],
        ),
    ] {
        let workspace = Workspace::new();
        workspace.write("log", &log);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/run");
        let mut command =
            workspace.command_of("bash", &[script.to_str().unwrap(), workspace.path("log").to_str().unwrap()]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let finished = finish(command.spawn().unwrap());
        assert_eq!(finished.stdout.lines().skip(1).collect::<Vec<_>>(), said, "{finished:#?}");
        assert_eq!(finished.code, Some(code), "{finished:#?}");
    }
}

#[test]
fn the_numbers_in_a_name_are_those_it_begins_with() {
    for (name, ids) in [
        ("n05_silence", &["n05"][..]),
        ("p01_p02_a_circle", &["p01", "p02"]),
        ("h02_to_h04_in_all_forms", &["h02", "h03", "h04"]),
        ("a_304_and_n05", &[]),
        ("w05_a_thousand", &[]),
    ] {
        assert_eq!(ids_of(name), ids, "{name}");
    }
    assert_eq!(test_names("#[test]\n#[ignore]\nfn a() {}\nfn b() {}\n  #[tokio::test]\n  async fn c() {}"), ["a", "c"]);
}
