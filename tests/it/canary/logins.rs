//! Every way to log in, with secrets from every place that they can come from.

use super::secrets::{Place, canary};

/// One way to log in.
pub(super) struct Login {
    pub(super) name: &'static str,
    /// Lines of `[sources.NAME.client]`. `{0}`, `{1}` … stand for the secrets, `TOKEN_URL` for who gives out tokens.
    client: &'static str,
    /// Lines that every resource gets.
    resource: &'static str,
    /// What stands before the name of a resource in its path.
    pub(super) path: &'static str,
    /// What the secrets have to be made of.
    places: &'static [Place],
}

const fn login(name: &'static str, client: &'static str, places: &'static [Place]) -> Login {
    Login { name, client, resource: "", path: "", places }
}

pub(super) const LOGINS: [Login; 17] = [
    login("plain", r#"auth = { type = "bearer", token = "{0}" }"#, &[Place::Plain]),
    login("bearer", r#"auth = { type = "bearer", token = "{0}" }"#, &[Place::Header]),
    login(
        "basic",
        r#"auth = { type = "http_basic", username = "{0}", password = "{1}" }"#,
        &[Place::Anywhere, Place::Anywhere],
    ),
    login("key_header", r#"auth = { type = "api_key", name = "X-Api-Key", api_key = "{0}" }"#, &[Place::Header]),
    login(
        "key_query",
        r#"auth = { type = "api_key", name = "k", api_key = "{0}", location = "query" }"#,
        &[Place::Anywhere],
    ),
    login(
        "key_cookie",
        r#"auth = { type = "api_key", name = "sid", api_key = "{0}", location = "cookie" }"#,
        &[Place::Narrow],
    ),
    login(
        "client_body",
        r#"auth = { type = "oauth2_client_credentials", access_token_url = "TOKEN_URL", client_id = "me", client_secret = "{0}", access_token_request_data = { extra = "{1}" } }"#,
        &[Place::Anywhere, Place::Anywhere],
    ),
    login(
        "client_basic",
        r#"auth = { type = "oauth2_client_credentials", access_token_url = "TOKEN_URL", client_id = "me", client_secret = "{0}", client_auth = "basic" }"#,
        &[Place::Anywhere],
    ),
    login(
        "refresh_body",
        r#"auth = { type = "oauth2_refresh_token", access_token_url = "TOKEN_URL", client_id = "me", client_secret = "{0}", refresh_token = "{1}" }"#,
        &[Place::Anywhere, Place::Anywhere],
    ),
    login(
        "refresh_basic",
        r#"auth = { type = "oauth2_refresh_token", access_token_url = "TOKEN_URL", client_id = "me", client_secret = "{0}", refresh_token = "{1}", client_auth = "basic" }"#,
        &[Place::Anywhere, Place::Anywhere],
    ),
    login(
        "session",
        r#"auth = { type = "session_token", login = { path = "TOKEN_URL", json = { user = "me", password = "{0}" } }, token_path = "access_token" }"#,
        &[Place::Anywhere],
    ),
    login(
        "session_query",
        r#"auth = { type = "session_token", login = { path = "TOKEN_URL", json = { password = "{0}" } }, token_path = "access_token", name = "sid", location = "query" }"#,
        &[Place::Anywhere],
    ),
    login(
        "params",
        "headers = { X-Extra = \"Token {0}\" }\nparams = { extra = \"a{1}\" }",
        &[Place::Header, Place::Anywhere],
    ),
    Login {
        name: "resource_params",
        client: "",
        path: "",
        resource: "headers = { X-Extra = \"Token {0}\" }\nparams = { extra = \"{1}b\" }",
        places: &[Place::Header, Place::Anywhere],
    },
    Login {
        name: "json",
        client: "",
        path: "",
        resource: "method = \"POST\"\njson = { inside = [{ password = \"{0}\" }] }",
        places: &[Place::Anywhere],
    },
    Login {
        name: "form",
        client: "",
        path: "",
        resource: "method = \"POST\"\nform = { password = \"{0}\" }",
        places: &[Place::Anywhere],
    },
    Login { name: "path", client: "", resource: "", path: "bot{0}/", places: &[Place::Narrow] },
];

/// A login with its secrets, each from a place of its own.
pub(super) struct Account {
    pub(super) login: &'static Login,
    pub(super) secrets: Vec<String>,
    turn: usize,
}

impl Account {
    /// `turn` decides which of the secrets comes from where.
    pub(super) fn new(login: &'static Login, turn: usize) -> Self {
        let made = |(at, place): (usize, &Place)| canary(&format!("{}{at}", login.name.replace('_', "")), *place);
        Self { login, secrets: login.places.iter().enumerate().map(made).collect(), turn }
    }

    /// Writes the secrets into a folder, and tells which variables a process needs.
    pub(super) fn hand_over(&self, folder: &std::path::Path) -> Vec<(String, String)> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(folder).unwrap();
        let mut variables = vec![("CREDENTIALS_DIRECTORY".to_owned(), folder.to_str().unwrap().to_owned())];
        for (at, secret) in self.secrets.iter().enumerate() {
            if self.origin(at) == 0 {
                variables.push((format!("SECRET_{at}"), secret.clone()));
                continue;
            }
            let path = folder.join(format!("secret_{at}"));
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        variables
    }

    /// From the environment, from a file, or from systemd. What a path has from the environment is no secret.
    fn origin(&self, secret: usize) -> usize {
        if self.login.path.is_empty() { (secret + self.turn) % 3 } else { 1 + self.turn % 2 }
    }

    fn filled_in(&self, text: &str, folder: &std::path::Path) -> String {
        let mut text = text.to_owned();
        for at in 0..self.secrets.len() {
            let placeholder = match self.origin(at) {
                0 => format!("${{env:SECRET_{at}}}"),
                1 => format!("${{file:{}/secret_{at}}}", folder.display()),
                _ => format!("${{cred:secret_{at}}}"),
            };
            text = text.replace(&format!("{{{at}}}"), &placeholder);
        }
        text
    }

    /// The lines of a client whose tokens come from `endpoint`, a path of the API.
    pub(super) fn client(&self, folder: &std::path::Path, base: &str, endpoint: &str) -> String {
        let url =
            if self.login.name.starts_with("session") { endpoint.to_owned() } else { format!("{base}{endpoint}") };
        self.filled_in(self.login.client, folder).replace("TOKEN_URL", &url)
    }

    /// The lines that every resource gets; `name` is the end of its path.
    pub(super) fn resource(&self, folder: &std::path::Path, name: &str) -> String {
        self.filled_in(&format!("path = \"{}{name}\"\n{}", self.login.path, self.login.resource), folder)
    }

    /// Whether it asks somebody for a token first.
    pub(super) fn asks_for_tokens(&self) -> bool {
        self.login.client.contains("TOKEN_URL")
    }
}
