//! Whatever stands in the file, the answer is options or a report.

use proptest::prelude::*;

use super::CLIENT;
use crate::fuzzing;

fn answer(text: &str) {
    fuzzing::config(text.as_bytes());
}

/// Text made of the pieces that TOML and our vocabulary are made of, so that it gets far.
fn tomlish() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "sources",
        "s",
        "client",
        "resources",
        "a",
        "auth",
        "type",
        "bearer",
        "token",
        "paginator",
        "cursor",
        "json",
        "params",
        "headers",
        "path",
        "response_actions",
        "when",
        "processing_steps",
        "filter",
        "add",
        "rename",
        "resource_defaults",
        "pipeline",
        "batch_age",
        "é",
    ]);
    let piece = prop_oneof![
        6 => word.prop_map(str::to_owned),
        6 => prop::sample::select(vec![
            "[", "]", "[[", "]]", ".", " = ", "\n", "\n[", "]\n", "{", "}", ", ", "\"", "'", "\"${env:A}\"", "\"${", "}\"",
            "\"$${\"", "1", "-1", "1.5", "nan", "true", "2024-01-01", "\"\"\"\n", "#", "\r\n", "\"5s\"", "\"\\u0000\"",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn any_text_is_answered(text in tomlish()) {
        answer(&text);
    }

    #[test]
    fn any_change_of_a_good_file_is_answered(at in 0usize..400, length in 0usize..20, piece in tomlish()) {
        let good = format!("{CLIENT}auth = {{ type = \"bearer\", token = \"${{env:A}}\" }}\n[sources.s.resources.é]\nparams = {{ a = 1 }}\nresponse_actions = [{{ status_code = 404, action = \"ignore\" }}]\n");
        let floor = |i: usize| (0..=i.min(good.len())).rev().find(|i| good.is_char_boundary(*i)).unwrap();
        let (from, to) = (floor(at), floor(at + length));
        answer(&format!("{}{piece}{}", &good[..from], &good[to..]));
    }
}

/// What nests without end must end in a report, not in an overflow of the stack.
#[test]
fn deep_nesting_is_answered() {
    for depth in [50, 124, 490, 1_990, 100_000] {
        answer(&format!("{}b = 1\n", "a.".repeat(depth)));
        answer(&format!("[{}b]\n", "a.".repeat(depth)));
        answer(&format!("a = {}", "[".repeat(depth)));
        answer(&format!("a = {}1{}", "[".repeat(depth), "]".repeat(depth)));
        for open in ["(", "[", "{", "not ", "-", "a.", "$[?(", "$[?!", "$[?length(", "$[?@["] {
            let nested = open.repeat(depth);
            answer(&format!(
                "{CLIENT}[sources.s.resources.r]\ndata_selector = \"${}\"\nresponse_actions = [{{ when = \"{nested}\", action = \"fail\" }}]\n",
                nested.trim_start_matches('$')
            ));
            let step = &nested[..nested.len().min(1_998)];
            answer(&format!("{CLIENT}[sources.s.resources.r]\nprocessing_steps = [{{ filter = \"{step}\" }}]\n"));
        }
    }
}
