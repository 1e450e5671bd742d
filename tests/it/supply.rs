//! What a release is made of: how many crates, with which rules, and nothing that only tests need.

use std::collections::BTreeSet;
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The lines of a section of a manifest.
fn section(manifest: &str, name: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn the_readme_says_of_how_many_crates_a_release_is_made() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--target", "x86_64-unknown-linux-gnu"])
        .args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let others = crates.iter().filter(|line| !line.starts_with("highwater ")).count();
    assert!(others > 100, "{tree}");
    let said = format!("A release is built from {others} crates besides its own");
    assert!(read("README.md").replace('\n', " ").contains(&said), "the README does not say: {said}");
}

#[test]
fn unsafe_code_is_forbidden_and_nothing_that_only_tests_need_is_in_a_release() {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let lints = section(&read(manifest), "lints.rust");
        assert!(lints.iter().any(|line| line == "unsafe_code = \"forbid\""), "{manifest}: {lints:?}");
    }
    let features = section(&read("Cargo.toml"), "features");
    for name in ["fuzzing", "sabotage"] {
        assert!(features.contains(&format!("{name} = []")), "{features:?}");
    }
    assert!(!features.iter().any(|line| line.starts_with("default")), "{features:?}");
}

#[test]
fn every_fuzz_target_runs_a_property_of_its_name_and_is_known_to_the_script() {
    let properties = read("src/fuzzing.rs");
    let run = read("fuzz/run");
    let manifest = read("fuzz/Cargo.toml");
    let folder = format!("{}/fuzz/fuzz_targets", env!("CARGO_MANIFEST_DIR"));
    let mut names = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let target = std::fs::read_to_string(&path).unwrap();
        assert!(target.contains(&format!("highwater::fuzzing::{name}(data)")), "{name}");
        assert!(properties.contains(name), "src/fuzzing.rs has no {name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no {name}");
        assert!(run.contains(name), "fuzz/run has no {name}");
        assert!(read("docs/fuzzing.md").contains(&format!("`{name}`")), "docs/fuzzing.md has no {name}");
        names += 1;
    }
    assert!(names >= 8, "{names}");
}
