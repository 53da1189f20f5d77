//! Where the address and the token come from, and which of several wins.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::node::{Node, Route, TOKEN, finish, harbor, succeed};

fn node() -> Node {
    Node::start(vec![Route("GET /v1/services", "", 200, json!({"services": []}))])
}

/// A folder as `harbor-node dev` makes it, and a folder below.
fn dev_folder(api: Option<&str>, token: Option<&str>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".harbor")).unwrap();
    fs::create_dir_all(folder.path().join("app/src")).unwrap();
    for (name, text) in [("api", api), ("token", token)] {
        if let Some(text) = text {
            fs::write(folder.path().join(".harbor").join(name), format!("{text}\n")).unwrap();
        }
    }
    folder
}

/// A well-formed address that no test connects to.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn the_address_is_the_flag_then_the_variable_then_the_folder() {
    let (flag, var, dev) = (node(), node(), node());
    let folder = dev_folder(Some(&dev.url), Some(TOKEN));
    let run = |args: &[&str], vars: &[(&str, &str)]| {
        let mut command = harbor(&folder.path().join("app/src"), args);
        command.env("HARBOR_TOKEN", TOKEN).envs(vars.iter().copied());
        assert_eq!(succeed(command), "{\"services\":[]}\n");
        [&flag, &var, &dev].map(|node| node.requests().len())
    };
    let list = ["services", "-o", "json"];
    assert_eq!(run(&["--url", &flag.url, "services", "-o", "json"], &[("HARBOR_URL", &var.url)]), [1, 0, 0]);
    assert_eq!(run(&["services", "--url", &flag.url, "-o", "json"], &[("HARBOR_URL", NOBODY)]), [1, 0, 0]);
    assert_eq!(run(&list, &[("HARBOR_URL", &var.url)]), [0, 1, 0]);
    assert_eq!(run(&list, &[]), [0, 0, 1]);
    assert_eq!(run(&list, &[("HARBOR_URL", " ")]), [0, 0, 1], "an empty variable counts as not set");
}

#[test]
fn the_token_is_the_variable_then_the_file_then_the_folder() {
    let node = node();
    let right = dev_folder(Some(&node.url), Some(TOKEN));
    let wrong = dev_folder(Some(&node.url), Some("wrong"));
    let token_file = right.path().join(".harbor/token").display().to_string();
    let wrong_file = wrong.path().join(".harbor/token").display().to_string();
    let code = |folder: &TempDir, vars: &[(&str, &str)]| {
        let mut command = harbor(folder.path(), &["services"]);
        command.envs(vars.iter().copied());
        finish(command)
    };
    for (folder, vars, want) in [
        (&wrong, &[("HARBOR_TOKEN", TOKEN), ("HARBOR_TOKEN_FILE", &wrong_file)][..], None),
        (&right, &[("HARBOR_TOKEN", "wrong"), ("HARBOR_TOKEN_FILE", &token_file)], Some("HARBOR_TOKEN")),
        (&wrong, &[("HARBOR_TOKEN_FILE", &token_file)], None),
        (&right, &[("HARBOR_TOKEN_FILE", &wrong_file)], Some("(HARBOR_TOKEN_FILE)")),
        (&right, &[("HARBOR_TOKEN", ""), ("HARBOR_TOKEN_FILE", "")], None),
        (&wrong, &[], Some(".harbor/token")),
    ] {
        let (code, _, err) = code(folder, vars);
        assert_eq!(code, i32::from(want.is_some()), "{vars:?}: {err}");
        if let Some(source) = want {
            assert!(err.contains("does not accept the token: the token is not the right one"), "{err}");
            assert!(err.contains(&format!("{source})")), "{vars:?} should name {source}: {err}");
            assert!(!err.contains("wrong\n") && !err.contains(TOKEN), "{err}");
        }
    }
}

#[test]
fn a_relative_token_file_counts_from_the_current_folder() {
    let node = node();
    let folder = dev_folder(None, Some(TOKEN));
    let mut command = harbor(&folder.path().join("app"), &["services", "-o", "json"]);
    command.env("HARBOR_URL", &node.url).env("HARBOR_TOKEN_FILE", "../.harbor/token");
    succeed(command);
}

#[test]
fn a_dev_folders_token_is_not_sent_to_another_node() {
    let (own, other) = (node(), node());
    let folder = dev_folder(Some(&own.url), Some(TOKEN));
    let mut command = harbor(folder.path(), &["services"]);
    command.env("HARBOR_URL", &other.url);
    let (code, out, err) = finish(command);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains(&format!("there is no token for {}; the one in ", other.url)), "{err}");
    assert!(err.contains(&format!("belongs to {}", own.url)) && err.contains("try: set HARBOR_TOKEN"), "{err}");
    assert!(other.requests().is_empty());
    // The same node by its own address is fine.
    succeed(harbor(folder.path(), &["services", "-o", "json", "--url", &own.url]));
}

#[test]
fn without_a_token_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = finish(harbor(folder.path(), &["services"]));
    assert_eq!((code, out.as_str()), (78, ""));
    assert_eq!(
        err,
        "error: there is no token for http://127.0.0.1:8700\n\
         try: set HARBOR_TOKEN or HARBOR_TOKEN_FILE, or go to the folder that harbor-node dev was started in\n"
    );
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let bad_api = dev_folder(Some("https://node:8700"), Some(TOKEN));
    let empty_token = dev_folder(Some(NOBODY), Some(""));
    let nowhere = Path::new("/");
    for (folder, vars, want) in [
        (nowhere, &[("HARBOR_URL", "node:8700"), ("HARBOR_TOKEN", "x")][..], "error: HARBOR_URL cannot be used: "),
        (nowhere, &[("HARBOR_URL", "https://node"), ("HARBOR_TOKEN", "x")], "https is not supported yet"),
        (nowhere, &[("HARBOR_TOKEN", "two words")], "error: HARBOR_TOKEN cannot be used: it has other characters"),
        (
            nowhere,
            &[("HARBOR_TOKEN_FILE", "/no/such/file")],
            "/no/such/file (HARBOR_TOKEN_FILE) cannot be used: No such",
        ),
        (nowhere, &[("HARBOR_TOKEN_FILE", "/")], "(HARBOR_TOKEN_FILE) cannot be used: "),
        (bad_api.path(), &[], ".harbor/api cannot be used: "),
        (empty_token.path(), &[], ".harbor/token (the .harbor folder) cannot be used: it is empty"),
    ] {
        let mut command = harbor(folder, &["services"]);
        command.envs(vars.iter().copied());
        let (code, out, err) = finish(command);
        assert_eq!((code, out.as_str()), (78, ""), "{want}: {err}");
        assert!(err.contains(want) && err.contains("\ntry: "), "want {want:?} in {err}");
        assert!(!err.contains("two words"), "{err}");
    }
}
