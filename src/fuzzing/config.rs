//! What must hold of a configuration, whatever stands in the file.

use std::path::PathBuf;
use std::sync::LazyLock;

use crate::config::{Env, load_text};
use crate::template::Template;

/// A secret that nobody may see.
const CANARY: &str = "canary-4fbd1c07e2a9";

/// A folder with a credential, as systemd gives one to a service.
static CREDENTIALS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("highwater-fuzz-credentials-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    std::fs::write(folder.join("key"), CANARY).expect("a folder for temporary files");
    folder
});

/// The text of a configuration: it is options or a report with a problem in it, the same each time, and a credential
/// that it names is not shown by either. And any text of one line can be written as a parameter that says just that.
///
/// # Panics
/// When that is not so.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(CANARY) {
        return;
    }
    let folder = CREDENTIALS.display().to_string();
    let env = Env::with([
        ("A", "${env:B}\"\n]"),
        ("HIGHWATER_PIPELINE__CONCURRENCY", "3"),
        ("HIGHWATER_é", "x"),
        ("CREDENTIALS_DIRECTORY", &folder),
    ]);
    let shown = || match load_text("config.toml", text, &env) {
        Ok(loaded) => format!("{loaded:?}{}", loaded.text),
        Err(report) => {
            assert!(report.problem_count() > 0);
            let json = serde_json::to_string(&report).expect("a report is plain data");
            format!("{report}{}{json}", report.with_colors())
        }
    };
    let said = shown();
    assert!(!said.contains(CANARY), "a secret is shown: {said}");
    assert_eq!(shown(), said);
    as_a_parameter(text);
}

/// Writes a text as a parameter, and reads it.
fn as_a_parameter(text: &str) {
    // What TOML cannot write in a string of its own is not for this.
    let quoted = toml::Value::String(text.replace("${", "$${")).to_string();
    let file = format!(
        "[sources.s.client]\nbase_url = \"https://api.test/\"\n[sources.s.resources.r]\nparams = {{ q = {quoted} }}\n"
    );
    let loaded = match load_text("config.toml", &file, &Env::default()) {
        Ok(loaded) => loaded,
        // The one text that is refused.
        Err(report) => return assert!(text.contains('\0'), "{report}"),
    };
    let resource = loaded.config.sources.get("s").and_then(|source| source.resources.get("r"));
    let param = resource.and_then(|resource| resource.params.get("q"));
    assert_eq!(param.map(Template::expose).as_deref(), Some(text));
}
