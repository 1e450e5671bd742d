//! Who may read the status page and who may act on it, and what clients cannot do to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use highwater::board::Action;
use highwater::page::ResourceId;
use highwater::web::Listen;

use crate::support::Workspace;
use crate::web::{Site, board, exchange, job, workspace};

const TOKEN: &str = "correct horse:battery";

/// `correct horse:battery` as the password of nobody.
const BASIC: &str = "authorization: Basic Om9ycmVjdA==";

fn site(workspace: &Workspace, listen: &str, token: Option<&str>) -> Site {
    Site::start(workspace, board(workspace, vec![job("s.good"), job("s.refused")]), listen, token)
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("authorization: Basic {both}")
}

#[test]
fn only_names_of_this_machine_are_answered() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", None);
    let port = site.address().port();
    for (hosts, status) in [
        (vec![format!("host: localhost:{port}")], 200),
        (vec!["host: LOCALHOST".to_owned()], 200),
        (vec![format!("host: 127.0.0.1:{port}")], 200),
        (vec!["host: 127.4.4.4".to_owned()], 200),
        (vec!["host: [::1]:9".to_owned()], 200),
        (vec!["host: [::ffff:127.0.0.1]".to_owned()], 200),
        (vec![format!("host: evil.example:{port}")], 421),
        (vec!["host: localhost.evil.example".to_owned()], 421),
        (vec!["host: 127.0.0.1.evil.example".to_owned()], 421),
        (vec!["host: 10.0.0.1".to_owned()], 421),
        (vec!["host: 0.0.0.0".to_owned()], 421),
        (vec!["host: localhost@evil.example".to_owned()], 400),
        (vec!["host: localhost:80.evil.example".to_owned()], 400),
        (vec!["host: localhost:".to_owned()], 200),
        (vec!["host: [::1]00:*ho".to_owned()], 400),
        (vec!["host: ".to_owned()], 400),
        (vec![], 400),
        (vec!["host: localhost".to_owned(), "host: evil.example".to_owned()], 400),
    ] {
        let headers: Vec<&str> = hosts.iter().map(String::as_str).collect();
        for path in ["/", "/index.json", "/events/x", "/assets/page.css", "/nothing"] {
            let answer = site.send(&format!("GET {path}"), &headers, "");
            let expected = if status == 200 && ["/events/x", "/nothing"].contains(&path) { 404 } else { status };
            assert_eq!(answer.status, expected, "{path} {hosts:?}");
            assert!(status == 200 || !answer.body.contains("s.good"), "{answer:?}");
        }
    }
    let answer = site.send("GET /", &["host: evil.example"], "");
    assert!(answer.body.contains("ask for 127.0.0.1 or localhost"), "{answer:?}");
    // The name can also stand in the request line.
    assert_eq!(site.send("GET http://evil.example/", &["host: localhost"], "").status, 400);
    site.stop();
}

#[test]
fn with_a_token_other_names_are_answered_to_those_who_have_it() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", Some(TOKEN));
    assert_eq!(site.get("/").status, 200);
    let foreign = "host: status.example";
    let answer = site.send("GET /", &[foreign], "");
    assert!(answer.status == 401 && !answer.body.contains("s.good"), "{answer:?}");
    assert_eq!(site.send("GET /", &[foreign, &basic("", TOKEN)], "").status, 200);
    site.stop();
}

#[test]
fn a_page_that_other_machines_reach_is_for_those_who_have_the_token() {
    let workspace = workspace();
    let site = site(&workspace, "0.0.0.0:0", Some(TOKEN));
    let bearer = format!("authorization: Bearer {TOKEN}");
    for path in ["/", "/index.json", "/runs", "/config.json", "/events", "/assets/page.js", "/nothing"] {
        let refused = [
            None,
            Some("authorization: Bearer wrong".to_owned()),
            Some("authorization: Bearer".to_owned()),
            Some(BASIC.to_owned()),
            Some("authorization: Basic %%%".to_owned()),
            Some(basic(TOKEN, "")),
            Some(basic("x", &TOKEN[..TOKEN.len() - 1])),
        ];
        for sent in refused {
            let headers: Vec<&str> = ["host: localhost"].into_iter().chain(sent.as_deref()).collect();
            let answer = site.send(&format!("GET {path}"), &headers, "");
            assert_eq!(answer.status, 401, "{path} {sent:?}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("basic realm="), "{answer:?}");
        }
    }
    for sent in [&bearer, &basic("anybody", TOKEN), &basic("", TOKEN)] {
        for host in ["host: localhost", "host: 192.0.2.7:8642", "host: status.example"] {
            assert_eq!(site.send("GET /", &[host, sent], "").status, 200, "{host} {sent}");
        }
    }
    // Nothing that a browser sends along by itself gives a right to act.
    let form = "content-type: application/x-www-form-urlencoded";
    let headers = ["host: status.example", &basic("", TOKEN), form];
    assert_eq!(site.send("POST /resources/s.good/run", &headers, "").status, 403);
    assert!(site.asked.lock().unwrap().is_empty());
    let field = "token=correct+horse%3Abattery";
    assert_eq!(site.send("POST /resources/s.good/run", &headers, field).status, 303);
    site.stop();
}

#[test]
fn actions_need_the_token_and_come_from_the_page_itself() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", Some(TOKEN));
    let here = site.address();
    let host = format!("host: {here}");
    let origin = format!("origin: http://{here}");
    let bearer = format!("authorization: Bearer {TOKEN}");
    let right = "username=highwater&token=correct+horse%3Abattery";
    let run = "POST /resources/s.good/run";
    for (headers, body, status) in [
        (vec![], "", 403),
        (vec![], "token=wrong", 403),
        (vec!["authorization: Bearer wrong"], right, 403),
        (vec!["sec-fetch-site: cross-site"], right, 403),
        (vec!["sec-fetch-site: same-site"], right, 403),
        (vec!["sec-fetch-site: none"], right, 403),
        (vec!["origin: null"], right, 403),
        (vec!["origin: http://evil.example"], right, 403),
        (vec!["origin: http://localhost"], right, 403),
        (vec!["sec-fetch-site: same-origin", "origin: http://evil.example"], right, 403),
        (vec!["sec-fetch-site: cross-site", &origin, &bearer], "", 403),
    ] {
        let headers: Vec<&str> = [host.as_str()].into_iter().chain(headers).collect();
        let answer = site.send(run, &headers, body);
        assert_eq!(answer.status, status, "{headers:?} {body}: {answer:?}");
    }
    assert!(site.asked.lock().unwrap().is_empty());

    let own = [host.as_str(), "sec-fetch-site: same-origin", &origin];
    let answer = site.send(run, &own, right);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/resources/s.good?done=run")));
    assert!(site.html("/resources/s.good?done=run").contains("It runs as soon as there is room."));
    for (word, status) in [("pause", 303), ("resume", 303), ("remove", 404), ("", 404)] {
        assert_eq!(site.send(&format!("POST /resources/s.good/{word}"), &own, right).status, status, "{word}");
    }
    assert_eq!(site.send("POST /resources/s.none/run", &own, right).status, 404);
    assert_eq!(site.get("/resources/s.good/run").status, 405);
    let id = ResourceId::new("s", "good");
    let asked = [Action::Run(id.clone()), Action::Pause(id.clone()), Action::Resume(id)];
    assert_eq!(*site.asked.lock().unwrap(), asked);

    // A program sends the token in a header, and gets JSON.
    let answer = site.send("POST /resources/s.good/run.json", &[&host, &bearer], "");
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!({"version": 1, "done": "done"})));
    let answer = site.send("POST /resources/s.refused/pause.json", &[&host, &bearer], "");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (409, Some("it is not in the mood")));

    let html = site.html("/resources/s.good");
    assert!(html.contains(r#"type="password""#) && !html.contains(TOKEN), "{html}");
    site.stop();
}

#[test]
fn without_a_token_nothing_can_be_done_and_it_is_said_how_to_change_that() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", None);
    for (headers, body) in
        [(vec!["host: localhost"], "token="), (vec!["host: localhost", "authorization: Bearer "], "")]
    {
        let answer = site.send("POST /resources/s.good/run", &headers, body);
        assert!(answer.status == 403 && answer.body.contains("[web] token"), "{answer:?}");
    }
    assert!(site.asked.lock().unwrap().is_empty());
    let html = site.html("/resources/s.good");
    assert!(html.contains("[web] token") && !html.contains("<form"), "{html}");
    site.stop();
}

#[test]
fn every_answer_keeps_browsers_from_doing_anything_else() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", None);
    for (request, host) in [
        ("GET /", "host: localhost"),
        ("GET /index.json", "host: localhost"),
        ("GET /nothing", "host: localhost"),
        ("GET /assets/page.js", "host: localhost"),
        ("POST /resources/s.good/run", "host: localhost"),
        ("DELETE /", "host: localhost"),
        ("GET /", "host: evil.example"),
    ] {
        let answer = site.send(request, &[host], "");
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{request} {host}");
        }
        assert!(answer.header("set-cookie").is_none() && answer.header("access-control-allow-origin").is_none());
        for inline in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!answer.body.contains(inline), "{request}: {inline} in {}", answer.body);
        }
    }
    site.stop();
}

#[test]
fn long_requests_are_refused() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", Some(TOKEN));
    let body = format!("token=correct+horse%3Abattery&more={}", "x".repeat(5_000));
    assert_eq!(site.send("POST /resources/s.good/run", &["host: localhost"], &body).status, 413);
    assert!(site.asked.lock().unwrap().is_empty());
    let long = format!("x-long: {}", "x".repeat(20_000));
    assert_eq!(site.send("GET /", &["host: localhost", &long], "").status, 431);
    site.stop();
}

#[test]
fn the_sixty_fifth_connection_waits_for_a_place() {
    let workspace = workspace();
    let site = site(&workspace, "127.0.0.1:0", Some(TOKEN));
    let ask = |stream: &mut std::net::TcpStream| {
        stream.write_all(b"HEAD /assets/page.css HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut letter = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut letter).unwrap();
            answer.push(letter[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    };
    let mut held: Vec<_> = (0..64).map(|_| site.connect()).collect();
    held.iter_mut().for_each(ask);
    let mut next = site.connect();
    let action = "POST /resources/s.good/run HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                  content-length: 29\r\n\r\ntoken=correct+horse%3Abattery";
    next.write_all(action.as_bytes()).unwrap();
    // Those who have a place are answered meanwhile.
    (0..50).for_each(|_| held.iter_mut().for_each(ask));
    assert!(site.asked.lock().unwrap().is_empty());
    held.pop();
    let mut answer = String::new();
    next.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    drop(held);
    site.stop();
}

#[test]
fn a_unix_socket_serves_the_same_and_leaves_no_file() {
    let workspace = workspace();
    let path = workspace.path("web.sock");
    let site = site(&workspace, &format!("unix:{}", path.display()), None);
    assert_eq!(site.place, Listen::Unix(path.clone()));
    let get = |host: &str| exchange(UnixStream::connect(&path).unwrap(), "GET /", &[host], "");
    let answer = get("host: localhost");
    assert!(answer.status == 200 && answer.body.contains("s.good"), "{answer:?}");
    assert_eq!(get("host: evil.example").status, 421);
    site.stop();
    assert!(!path.exists());
}
