//! What is written for shells and programs comes out of them unchanged.

use std::collections::BTreeMap;

use harbor_env::{Format, FormatError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{env, run, service};

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn forms_are_written_like_this() {
    let vars = vars(&[("A", "it's"), ("B_1", "x y")]);
    for (format, want) in [
        (Format::Shell, "export A='it'\\''s'\nexport B_1='x y'\n"),
        (Format::Json, "{\n  \"A\": \"it's\",\n  \"B_1\": \"x y\"\n}\n"),
        (Format::Dotenv, "A=it's\nB_1=x y\n"),
    ] {
        assert_eq!(format.render(&vars).unwrap(), want, "{format}");
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }
    assert_eq!("yaml".parse::<Format>().unwrap_err(), "\"yaml\" is not a format; give shell, json or dotenv");
}

#[test]
fn json_is_read_back_unchanged() {
    let vars = env("app", &[service("a", 4100), service("b", 4101)]);
    let json = Format::Json.render(&vars).unwrap();
    assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&json).unwrap(), vars);
}

/// docker takes everything after the first `=` of a line.
#[test]
fn an_environment_fits_an_env_file() {
    let vars = env("app", &[service("a", 4100), service("b.https", 4101)]);
    let file = Format::Dotenv.render(&vars).unwrap();
    let read: BTreeMap<String, String> =
        file.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    assert_eq!(read, vars);
}

#[test]
fn what_a_form_cannot_carry_is_refused() {
    for (name, value, bad) in [
        ("1A", "x", &[Format::Shell, Format::Json, Format::Dotenv][..]),
        ("", "x", &Format::ALL),
        ("A-B", "x", &Format::ALL),
        ("A;touch x", "x", &Format::ALL),
        ("É", "x", &Format::ALL),
        ("A", "nul\0", &Format::ALL),
        ("A", "two\nlines", &[Format::Dotenv]),
        ("A", "two\rlines", &[Format::Dotenv]),
        ("A", " blank", &[Format::Dotenv]),
        ("A", "\"quoted\"", &[Format::Dotenv]),
        ("A", "x #y", &[Format::Dotenv]),
        ("A", "$HOME", &[Format::Dotenv]),
        ("A", "back\\slash", &[Format::Dotenv]),
        ("A", "", &[]),
    ] {
        for format in Format::ALL {
            let refused = format.render(&vars(&[(name, value)])).is_err();
            assert_eq!(refused, bad.contains(&format), "{name:?}={value:?} as {format}");
        }
    }
    let error = Format::Dotenv.render(&vars(&[("A", "$HOME")])).unwrap_err();
    assert!(matches!(&error, FormatError::NotPortable { name, .. } if name == "A"), "{error}");
}

/// Values after `eval` of the shell form, in a real shell, as `harbor env APP` is meant to be used.
fn through(shell: &str, values: &[String]) -> Option<Vec<String>> {
    let vars: BTreeMap<String, String> =
        values.iter().enumerate().map(|(i, value)| (format!("V{i}"), value.clone())).collect();
    let show: String = (0..values.len()).map(|i| format!(" \"$V{i}\"")).collect();
    // A grandchild prints them: they must be exported, not only set.
    let script = format!("eval \"$(cat)\"; exec {shell} -c 'printf \"%s\\0\"{show}'");
    let output = run(shell, &script, &BTreeMap::new(), &Format::Shell.render(&vars).unwrap())?;
    let mut read: Vec<String> =
        output.split(|byte| *byte == 0).map(|v| String::from_utf8(v.to_vec()).unwrap()).collect();
    assert_eq!(read.pop().as_deref(), Some(""), "every value ends in a NUL");
    Some(read)
}

#[test]
fn awkward_values_survive_sh_and_bash() {
    let values: Vec<String> = [
        "",
        "'",
        "''",
        "\\",
        "\\'",
        "$HOME `id` $(id) !!",
        "a\nb\n",
        "\n",
        " ",
        "*",
        "~",
        "-n",
        "\u{1b}[0m",
        "ü\u{feff}",
        "\r\n",
    ]
    .map(str::to_owned)
    .into();
    for shell in ["sh", "bash", "dash"] {
        if let Some(read) = through(shell, &values) {
            assert_eq!(read, values, "{shell}");
        }
    }
}

fn awkward_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^\0]{0,40}",
        vec(
            prop::sample::select(vec![
                "'", "\"", "\\", "$", "`", "\n", "\r", " ", "a", "!", "(", ")", "${x}", "{", "#", ";"
            ]),
            0..20
        )
        .prop_map(|parts| parts.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_value_survives_sh(values in vec(awkward_text(), 1..24)) {
        if let Some(read) = through("sh", &values) {
            prop_assert_eq!(read, values);
        }
    }
}

#[test]
fn a_rendered_environment_survives_sh() {
    let vars = env("app", &[service("a.b", 4100)]);
    let script = "eval \"$(cat)\"; printf '%s' \"$STACKATO_SERVICES|$STACKATO_HARBOR_A_B\"";
    if let Some(output) = run("sh", script, &BTreeMap::new(), &Format::Shell.render(&vars).unwrap()) {
        assert_eq!(String::from_utf8_lossy(&output), format!("{}|4100", vars["STACKATO_SERVICES"]));
    }
}
