//! Keys and certificates as people make them with `openssl`: each kind is served, encrypted ones are refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use harbor_testkit::tools::tool;
use harbor_tls::{Acceptor, Current, Disk, HandshakeLimits, Pair, PairSource, server_config};
use std::sync::Arc;
use tempfile::TempDir;

use crate::rig::{Client, NAME, both, shown};

/// Runs `openssl` with these words in `folder`.
fn openssl(program: &Path, folder: &Path, words: &str) {
    let output = Command::new(program).current_dir(folder).args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A self-signed certificate for the key `x.pem` in `folder`.
fn self_sign(program: &Path, folder: &Path) {
    let words = format!(
        "req -x509 -key x.pem -out x.crt -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME} \
         -addext basicConstraints=critical,CA:FALSE"
    );
    openssl(program, folder, &words);
}

fn source(folder: &Path, key: &str) -> PairSource {
    PairSource::Paths { certificate: folder.join("x.crt"), key: folder.join(key) }
}

#[tokio::test]
async fn every_kind_of_key_that_openssl_makes_is_served() {
    let Some(program) = tool("openssl") else { return };
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    for (make, kind, formats) in [
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out x.pem",
            "rsa",
            &[
                ("rsa -in x.pem -traditional -out x.key", "-----BEGIN RSA PRIVATE KEY-----"),
                ("pkcs8 -topk8 -nocrypt -in x.pem -out x.key", "-----BEGIN PRIVATE KEY-----"),
            ][..],
        ),
        (
            "ecparam -name prime256v1 -genkey -out x.pem",
            "ecdsa",
            &[
                ("ec -in x.pem -out x.key", "-----BEGIN EC PRIVATE KEY-----"),
                ("ecparam -name prime256v1 -in x.pem -genkey -noout -out unused", "-----BEGIN EC PARAMETERS-----"),
                ("pkcs8 -topk8 -nocrypt -in x.pem -out x.key", "-----BEGIN PRIVATE KEY-----"),
            ],
        ),
        (
            "ecparam -name secp384r1 -genkey -noout -out x.pem",
            "ecdsa",
            &[("ec -in x.pem -out x.key", "-----BEGIN EC PRIVATE KEY-----")],
        ),
        (
            "ecparam -name secp521r1 -genkey -noout -out x.pem",
            "ecdsa",
            &[("pkcs8 -topk8 -nocrypt -in x.pem -out x.key", "-----BEGIN PRIVATE KEY-----")],
        ),
        (
            "genpkey -algorithm ED25519 -out x.pem",
            "ed25519",
            &[("pkey -in x.pem -out x.key", "-----BEGIN PRIVATE KEY-----")],
        ),
    ] {
        openssl(&program, folder, make);
        self_sign(&program, folder);
        for (convert, label) in formats {
            openssl(&program, folder, convert);
            // As `ecparam -genkey` leaves it, with the curve's own block first.
            let key = if label.contains("PARAMETERS") { "x.pem" } else { "x.key" };
            let text = fs::read_to_string(folder.join(key)).unwrap();
            assert!(text.starts_with(label), "{make}: {text}");
            let pair = Pair::load(&source(folder, key), &Disk).unwrap();
            assert_eq!((pair.facts().key_kind, pair.facts().chain), (kind, 1), "{make}");
            let current = Arc::new(Current::new(pair));
            let acceptor = Acceptor::new(server_config(current, &[]).unwrap(), HandshakeLimits::default());
            let certificate = certificate_of(folder, &program);
            for version in rustls::ALL_VERSIONS {
                let client = Client::trusting(&certificate, &[], &[version]);
                let (served, session) = both(&acceptor, &client).await;
                served.unwrap();
                assert_eq!(shown(&session.unwrap()), certificate, "{make}");
            }
        }
    }
}

/// The certificate in `x.crt`, as another reader than ours sees it.
fn certificate_of(folder: &Path, program: &Path) -> rustls::pki_types::CertificateDer<'static> {
    openssl(program, folder, "x509 -in x.crt -outform DER -out x.der");
    fs::read(folder.join("x.der")).unwrap().into()
}

#[test]
fn the_fingerprint_and_the_dates_are_those_that_openssl_prints() {
    let Some(program) = tool("openssl") else { return };
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    openssl(&program, folder, "ecparam -name prime256v1 -genkey -noout -out x.pem");
    self_sign(&program, folder);
    let pair = Pair::load(&source(folder, "x.pem"), &Disk).unwrap();
    let words = "x509 -in x.crt -noout -fingerprint -sha256 -dates -dateopt iso_8601";
    let output = Command::new(&program).current_dir(folder).args(words.split(' ')).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.ends_with(name)));
    let (_, fingerprint) = field("ingerprint").unwrap();
    assert_eq!(pair.facts().fingerprint.to_string(), fingerprint.replace(':', "").to_lowercase());
    for (name, date) in [("notBefore", pair.facts().not_before), ("notAfter", pair.facts().not_after)] {
        let iso = date.to_rfc3339().replace('T', " ").replace(".000Z", "Z");
        assert_eq!(field(name).unwrap().1, iso, "{name}");
    }
}

#[test]
fn keys_that_need_a_passphrase_or_are_not_supported_are_refused_by_name() {
    let Some(program) = tool("openssl") else { return };
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    openssl(&program, folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out x.pem");
    self_sign(&program, folder);
    for (make, want) in [
        ("pkcs8 -topk8 -in x.pem -out x.key -passout pass:secret", "x.key holds an encrypted private key"),
        ("rsa -in x.pem -traditional -aes256 -passout pass:secret -out x.key", "x.key holds an encrypted private key"),
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out x.key",
            "x.key holds a private key that is damaged",
        ),
        ("ecparam -name secp256k1 -genkey -noout -out x.key", "x.key holds a private key that is damaged or not supp"),
        ("genpkey -algorithm ED448 -out x.key", "x.key holds a private key that is damaged or not supported (RSA of"),
        ("pkey -in x.pem -outform DER -out x.key", "x.key is binary (DER or PKCS#12?)"),
        ("pkcs12 -export -inkey x.pem -in x.crt -out x.key -passout pass:secret", "x.key is binary"),
        ("pkey -in x.pem -pubout -out x.key", "x.key holds no private key"),
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out x.key", "x.crt does not match the private key in "),
    ] {
        openssl(&program, folder, make);
        let error = Pair::load(&source(folder, "x.key"), &Disk).expect_err(make).to_string();
        assert!(error.contains(want), "{make}: {error}");
    }
}
