//! Every way a pair can be wrong has a message of its own that names the file and what to do; nothing else is refused.

use harbor_tls::{Fingerprint, Warning};
use harbor_types::WallTime;
use rcgen::date_time_ymd;

use crate::rig::{Authority, Memory, app, named, pair};

const KEYS: &str = "x.key is there";
const CERTIFICATES: &str = "x.crt is there";

fn cut(text: &str, keep: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
    text.chars().take((text.len() as f64 * keep) as usize).collect()
}

#[test]
fn every_bad_file_says_what_is_wrong() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(), authority.issue());
    let (intermediate, root) = (authority.intermediate_pem(), authority.root_pem());
    let der = one.leaf.to_vec();
    let garbled = one.chain.replacen("MII", "M!!", 1);
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let damaged_key = "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n";
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAA=\n\
               -----END RSA PRIVATE KEY-----\n";
    let large = " ".repeat(1_048_577);
    let good = (one.chain.as_bytes(), one.key.as_bytes());
    for (what, certificate, key, want) in [
        ("empty certificate", &b""[..], good.1, ["x.crt is empty", KEYS]),
        ("empty key", good.0, b"", [CERTIFICATES, "x.key is empty"]),
        ("both empty", b"", b"", ["x.crt is empty", "x.key is empty"]),
        ("DER", &der, good.1, ["x.crt is binary", KEYS]),
        ("text", b"hello\n", good.1, ["x.crt holds no PEM block", KEYS]),
        ("zeros", &[0; 512], good.1, ["x.crt is binary", KEYS]),
        ("large", large.as_bytes(), good.1, ["x.crt has 1048577 bytes or more", KEYS]),
        ("swapped", good.1, good.0, ["x.crt holds a private key and no", "x.key holds a certificate and no"]),
        ("key twice", good.1, good.1, ["x.crt holds a private key and no certificate; are the", KEYS]),
        ("certificate twice", good.0, good.0, [CERTIFICATES, "x.key holds a certificate and no private key; are the"]),
        ("a request", request.as_bytes(), good.1, ["x.crt holds no certificate", KEYS]),
        ("a public key", good.0, public.as_bytes(), [CERTIFICATES, "x.key holds no private key"]),
        ("encrypted PKCS#8", good.0, pkcs8.as_bytes(), [CERTIFICATES, "x.key holds an encrypted private key"]),
        ("encrypted PKCS#1", good.0, old.as_bytes(), [CERTIFICATES, "x.key holds an encrypted private key"]),
        ("encrypted key first", pkcs8.as_bytes(), good.0, ["x.crt holds a private key and no", "x.key holds a cert"]),
        ("cut in a block", cut(&one.chain, 0.9).as_bytes(), good.1, ["x.crt is malformed or cut short: a block", KEYS]),
        ("cut key", good.0, cut(&one.key, 0.5).as_bytes(), [CERTIFICATES, "has no -----END PRIVATE KEY----- line"]),
        ("not base64", garbled.as_bytes(), good.1, ["x.crt is malformed or cut short: a block is not base64", KEYS]),
        ("no end of line", b"-----BEGIN CERT", good.1, ["cut short: a -----BEGIN line does not end in -----", KEYS]),
        ("not X.509", not_x509.as_bytes(), good.1, ["x.crt is malformed: certificate 1 is no X.509", KEYS]),
        (
            "second not X.509",
            (one.alone.clone() + not_x509).leak().as_bytes(),
            good.1,
            ["x.crt is malformed: certificate 2 is no X.509", KEYS],
        ),
        ("damaged key", good.0, damaged_key.as_bytes(), [CERTIFICATES, "x.key holds a private key that is damaged"]),
        (
            "two keys",
            good.0,
            (one.key.clone() + &two.key).leak().as_bytes(),
            [CERTIFICATES, "x.key holds 2 private keys"],
        ),
        ("another key", good.0, two.key.as_bytes(), ["x.crt does not match the private key in x.key", KEYS]),
        (
            "leaf last",
            (intermediate.clone() + &one.alone).leak().as_bytes(),
            good.1,
            ["x.crt is in the wrong order: certificate 2 belongs to the key; put it first", KEYS],
        ),
        (
            "root before intermediate",
            (one.alone.clone() + &root + &intermediate).leak().as_bytes(),
            good.1,
            ["x.crt is in the wrong order: certificate 2 issued none before it", KEYS],
        ),
        (
            "a stranger at the end",
            (one.chain.clone() + &two.alone).leak().as_bytes(),
            good.1,
            ["x.crt is in the wrong order: certificate 3 issued none before it", KEYS],
        ),
        (
            "the leaf twice",
            (one.alone.clone() + &one.alone).leak().as_bytes(),
            good.1,
            ["x.crt is in the wrong order: certificate 2 issued none before it", KEYS],
        ),
    ] {
        let error = pair(certificate, key).expect_err(what).to_string();
        for want in want {
            assert!(error.contains(want), "{what}: {error:?} lacks {want:?}");
        }
        assert!(error.starts_with("no usable certificate: x.crt "), "{what}: {error}");
        assert!(!error.contains("PRIVATE KEY-----\\n") && !error.contains("MII"), "{what}: {error} shows contents");
    }
}

#[test]
fn what_is_only_unusual_is_served() {
    let authority = Authority::new();
    let issued = authority.issue();
    let chain = &issued.chain;
    let crlf = chain.replace('\n', "\r\n");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (what, certificate, key) in [
        ("as issued", chain.clone(), issued.key.clone()),
        ("Windows line ends", crlf, issued.key.replace('\n', "\r\n")),
        ("byte order mark", format!("\u{feff}{chain}"), format!("\u{feff}{}", issued.key)),
        ("comments around blocks", format!("subject=app\n{chain}\nthe end"), format!("Bag Attributes\n{}", issued.key)),
        ("parameters before the key", chain.clone(), format!("{parameters}{}", issued.key)),
        ("everything in both files", format!("{chain}{}", issued.key), format!("{chain}{}", issued.key)),
        ("without an intermediate", issued.alone.clone(), issued.key.clone()),
        ("with the root", format!("{chain}{}", authority.root_pem()), issued.key.clone()),
        ("the root twice", format!("{chain}{0}{0}", authority.intermediate_pem()), issued.key.clone()),
    ] {
        let pair = pair(certificate, key).unwrap_or_else(|error| unreachable!("{what}: {error}"));
        assert_eq!(pair.facts().fingerprint, Fingerprint::of_certificate(&issued.leaf), "{what}");
        assert_eq!(pair.facts().key_kind, "ecdsa", "{what}");
    }
}

#[test]
fn the_dates_are_numbers_to_export_and_expiry_is_a_warning() {
    let authority = Authority::new();
    for ((from, to), want) in [
        (((2000, 1, 1), (2001, 1, 1)), (946_684_800, 978_307_200)),
        (((2024, 2, 29), (2049, 12, 31)), (1_709_164_800, 2_524_521_600)),
        (((1960, 1, 1), (2100, 1, 1)), (0, 4_102_444_800)), // generalised time from 2050 on
    ] {
        let mut params = named("leaf");
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let issued = authority.issue_as(&params);
        let pair = pair(&issued.chain, &issued.key).expect("served, whatever its dates");
        let facts = pair.facts();
        assert_eq!((facts.not_before.as_millis() / 1_000, facts.expires_at()), want, "{from:?}");
        let at = |seconds: u64| facts.warning(WallTime::from_millis(seconds * 1_000));
        assert_eq!(at(want.0), None);
        assert_eq!(at(want.1), None, "the last second counts");
        assert_eq!(at(want.1 + 1), Some(Warning::Expired { since: facts.not_after }));
        if let Some(before) = want.0.checked_sub(1) {
            assert_eq!(at(before), Some(Warning::NotYetValid { until: facts.not_before }));
        }
    }
    let expired = Warning::Expired { since: WallTime::from_millis(978_307_200_000) };
    assert_eq!(expired.to_string(), "the certificate expired at 2001-01-01T00:00:00.000Z");
}

#[test]
fn a_bad_fallback_pair_is_reported_with_what_was_looked_for_before_it() {
    let files = Memory::with(&["/app/certs/harbor.key"]);
    files.put("/app/certs/harbor.crt", "");
    let error = harbor_tls::Pair::load(&app("/app", "web-https"), &files).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no usable certificate for service web-https: /app/certs/web-https.crt is not there; \
         /app/certs/web-https.key is not there; /app/certs/harbor.crt is empty; \
         /app/certs/harbor.key holds no PEM block; expected is one that begins with -----BEGIN"
    );
}

#[test]
fn garbage_of_every_kind_is_refused_without_a_crash() {
    // Every single-byte change of a small pair, and every cut: refused or served, never anything else.
    let issued = Authority::new().issue();
    let (certificate, key) = (issued.alone.as_bytes(), issued.key.as_bytes());
    let mut served = 0;
    for at in 0..certificate.len() {
        let mut changed = certificate.to_vec();
        changed[at] ^= 0x15;
        served += usize::from(pair(&changed, key).is_ok());
        served += usize::from(pair(&certificate[..at], key).is_ok());
    }
    for at in 0..key.len() {
        let mut changed = key.to_vec();
        changed[at] ^= 0x15;
        served += usize::from(pair(certificate, &changed).is_ok());
    }
    // A change in the dates, the names or the signature is for clients to judge.
    assert!(served > 0 && served < certificate.len() + key.len(), "{served}");
}
