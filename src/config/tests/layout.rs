//! `columns`, `schema_contract` and `max_table_nesting`: what they accept, and what is said of the rest.

use super::{CLIENT, load, loaded, problems};
use crate::page::{ContractMode, HintType, SchemaContract};

fn text(resource: &str) -> String {
    format!("{CLIENT}[sources.s.resources.r]\n{resource}\n")
}

#[test]
fn what_is_wrong_with_columns_is_said_at_its_key() {
    for (lines, expected) in [
        (
            "columns = { a = { type = \"number\" } }",
            "columns.a.type: `number` is not one of the accepted values (accepted: `integer`, `real`, `text`,",
        ),
        ("columns = { a = {} }", "columns.a.type: the key `type` is missing"),
        ("columns = { a = \"integer\" }", "columns.a: expected a table, found a string"),
        ("columns = { a = { typ = \"integer\" } }", "columns.a.typ: unknown key `typ` (did you mean `type`?"),
        (
            "primary_key = \"id\"\ncolumns = { id = { type = \"boolean\" } }",
            "columns.id.type: a primary key cannot have this type",
        ),
        (
            "primary_key = [\"a\", \"b\"]\ncolumns = { b = { type = \"json\" } }",
            "columns.b.type: a primary key cannot have this type",
        ),
        (
            "max_table_nesting = 1\ncolumns = { \"a.b.c\" = { type = \"real\" } }",
            "columns.\"a.b.c\": is deeper than `max_table_nesting = 1` (set `max_table_nesting = 2`",
        ),
        (
            "max_table_nesting = 1\ncolumns = { \"a.b\" = { type = \"real\" }, a = { type = \"json\" } }",
            "columns.\"a.b\": `a` has a type of its own",
        ),
        ("max_table_nesting = 17", "max_table_nesting: must be at most 16"),
        ("max_table_nesting = -1", "max_table_nesting: must be at least 0"),
        ("max_table_nesting = \"1\"", "max_table_nesting: expected a whole number"),
        ("schema_contract = \"frozen\"", "schema_contract: `frozen` is not one of"),
        ("schema_contract = 5", "schema_contract: expected one of"),
        ("schema_contract = { columns = \"drop\" }", "schema_contract.columns: `drop` is not one of"),
        ("schema_contract = { column = \"freeze\" }", "schema_contract.column: unknown key"),
    ] {
        let found = problems(load(&text(lines)));
        let expected = format!("sources.s.resources.r.{expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{lines}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn a_table_that_child_tables_can_need_is_refused_to_others() {
    let resource = |depth: u32| {
        format!(
            "{CLIENT}[sources.s.resources.r]\nmax_table_nesting = {depth}\n[sources.s.resources.x]\ntable = \"S_R__lines\"\n"
        )
    };
    let found = problems(load(&resource(1)));
    let expected =
        "sources.s.resources.x: its table begins with `s_r__`, which is for the child tables of sources.s.resources.r";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    loaded(&resource(0));
}

#[test]
fn one_word_is_the_contract_for_everything_and_the_defaults_are_handed_down() {
    let contract = |lines: &str| loaded(&text(lines)).config.sources["s"].resources["r"].schema_contract;
    use ContractMode::{DiscardRow, DiscardValue, Evolve, Freeze, Quarantine};
    let all = |mode| SchemaContract { tables: mode, columns: mode, data_type: mode };
    assert_eq!(contract(""), all(Evolve));
    for (word, mode) in [
        ("evolve", Evolve),
        ("freeze", Freeze),
        ("discard_row", DiscardRow),
        ("discard_value", DiscardValue),
        ("quarantine", Quarantine),
    ] {
        assert_eq!(contract(&format!("schema_contract = \"{word}\"")), all(mode));
    }
    let one = SchemaContract { columns: Freeze, ..all(Evolve) };
    assert_eq!(contract("schema_contract = { columns = \"freeze\" }"), one);
    let defaults = "[sources.s.resource_defaults]\nschema_contract = { tables = \"freeze\" }\ncolumns = { a = { type = \"real\" } }\n";
    let merged = format!("{}{defaults}", text("schema_contract.columns = \"quarantine\"\ncolumns.b.type = \"text\""));
    let config = loaded(&merged).config;
    let resource = &config.sources["s"].resources["r"];
    assert_eq!(resource.schema_contract, SchemaContract { tables: Freeze, columns: Quarantine, data_type: Evolve });
    let hints: Vec<_> = resource.columns.iter().map(|(key, hint)| (key.as_str(), hint.column_type)).collect();
    assert_eq!(hints, [("b", HintType::Text), ("a", HintType::Real)]);
}

#[test]
fn a_dot_without_child_tables_is_a_part_of_a_name_and_said_to_be() {
    let hints = loaded(&text("columns = { \"a.b\" = { type = \"real\" } }")).hints;
    assert!(hints.len() == 1 && hints[0].contains("max_table_nesting"), "{hints:?}");
    assert_eq!(loaded(&text("max_table_nesting = 1\ncolumns = { \"a.b\" = { type = \"real\" } }")).hints, [""; 0]);
}
