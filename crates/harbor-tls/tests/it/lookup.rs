//! Which files apply to a service: its own, else `harbor.*`, never half of a pair.

use std::path::Path;

use harbor_tls::{Fence, Origin, PairSource, Problem};
use harbor_types::ServiceName;

use crate::rig::{Memory, app};

const OWN_CRT: &str = "/app/certs/web-https.crt";
const OWN_KEY: &str = "/app/certs/web-https.key";
const CRT: &str = "/app/certs/harbor.crt";
const KEY: &str = "/app/certs/harbor.key";

#[test]
fn the_services_own_pair_comes_before_harbors() {
    for (files, want) in [
        (&[OWN_CRT, OWN_KEY, CRT, KEY][..], Origin::Service),
        (&[OWN_CRT, OWN_KEY], Origin::Service),
        (&[CRT, KEY], Origin::Fallback),
        (&[CRT, KEY, "/app/certs/other.crt", "/app/certs/other.key", "/app/web-https.crt"], Origin::Fallback),
    ] {
        let found = app("/app", "web-https").look(&Memory::with(files)).unwrap();
        let (crt, key) = if want == Origin::Service { (OWN_CRT, OWN_KEY) } else { (CRT, KEY) };
        assert_eq!(found.origin, want, "{files:?}");
        assert_eq!((found.certificate.as_path(), found.key.as_path()), (Path::new(crt), Path::new(key)), "{files:?}");
        assert_eq!((found.certificate_bytes, found.key_bytes), (crt.into(), key.into()), "{files:?}");
    }
}

#[test]
fn an_incomplete_pair_is_an_error_that_names_every_path_looked_at() {
    for (files, want) in [
        (&[OWN_CRT, CRT, KEY][..], format!("{OWN_CRT} is there; {OWN_KEY} is not there")),
        (&[OWN_KEY, CRT, KEY], format!("{OWN_CRT} is not there; {OWN_KEY} is there")),
        (&[CRT], format!("{OWN_CRT} is not there; {OWN_KEY} is not there; {CRT} is there; {KEY} is not there")),
        (&[KEY], format!("{OWN_CRT} is not there; {OWN_KEY} is not there; {CRT} is not there; {KEY} is there")),
        (&[], format!("{OWN_CRT} is not there; {OWN_KEY} is not there; {CRT} is not there; {KEY} is not there")),
    ] {
        let error = app("/app", "web-https").look(&Memory::with(files)).unwrap_err();
        assert_eq!(error.to_string(), format!("no usable certificate for service web-https: {want}"), "{files:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_exists_all_the_same() {
    struct Locked;
    impl harbor_tls::Files for Locked {
        fn read(&self, path: &Path, fence: Option<&Fence>) -> Result<Vec<u8>, Problem> {
            assert_eq!(fence.unwrap(), &Fence { root: "/app".into(), folder: "/app/certs".into() });
            match path.to_str().unwrap() {
                OWN_KEY => Err(Problem::NotReadable { source: std::io::ErrorKind::PermissionDenied.into() }),
                OWN_CRT => Err(Problem::Missing),
                _ => Ok(b"a pair of harbor's".to_vec()),
            }
        }
    }
    let error = app("/app", "web-https").look(&Locked).unwrap_err();
    let want = format!("{OWN_CRT} is not there; {OWN_KEY} cannot be read: permission denied");
    assert_eq!(error.to_string(), format!("no usable certificate for service web-https: {want}"));
}

#[test]
fn names_are_taken_as_they_are_and_stay_inside_the_folder() {
    let longest = "a".repeat(63);
    for name in ["a", "a.b", "v1.crt", "harbor", "A-https", "x.key", longest.as_str()] {
        let (crt, key) = (format!("/app/certs/{name}.crt"), format!("/app/certs/{name}.key"));
        let found = app("/app", name).look(&Memory::with(&[&crt, &key])).unwrap();
        assert_eq!((found.certificate.to_str(), found.key.to_str()), (Some(crt.as_str()), Some(key.as_str())));
        assert_eq!(found.certificate.parent(), Some(Path::new("/app/certs")));
    }
    for name in ["../harbor", "..", "a/../b", "/etc/x", "a\0b", ".hidden"] {
        assert!(ServiceName::parse(name).is_err(), "{name:?} would be a path");
    }
}

#[test]
fn a_service_named_harbor_is_looked_for_once() {
    let error = app("/app", "harbor").look(&Memory::default()).unwrap_err();
    assert_eq!(error.findings.len(), 2, "{error}");
}

#[test]
fn files_can_be_named_by_path_anywhere() {
    let source = PairSource::Paths { certificate: "/etc/a.pem".into(), key: "/run/b.pem".into() };
    assert_eq!(source.look(&Memory::with(&["/etc/a.pem", "/run/b.pem"])).unwrap().origin, Origin::Paths);
    let error = source.look(&Memory::with(&["/etc/a.pem"])).unwrap_err();
    assert_eq!(error.to_string(), "no usable certificate: /etc/a.pem is there; /run/b.pem is not there");
}

#[test]
fn the_fence_is_about_whole_folders_not_prefixes_of_text() {
    for (root, folder, file, want) in [
        ("/app", "/app/certs", "/app/certs/a.crt", true),
        ("/app", "/app/certs", "/app/certs/v2/a.crt", true),
        ("/app", "/app/shared/certs", "/app/shared/certs/a.crt", true),
        ("/app", "/app/certs", "/app/certs-old/a.crt", false),
        ("/app", "/app/certs", "/app/a.crt", false),
        ("/app", "/application/certs", "/application/certs/a.crt", false),
        ("/app", "/etc/ssl", "/etc/ssl/a.crt", false),
    ] {
        let inside = Fence::check(Path::new(root), Path::new(folder), Path::new(file));
        assert_eq!(inside.is_ok(), want, "{folder} {file}: {inside:?}");
    }
}

#[test]
fn keys_are_not_printed() {
    let found = app("/app", "web-https").look(&Memory::with(&[CRT, KEY])).unwrap();
    let printed = format!("{found:?}");
    assert!(printed.contains(KEY), "{printed}");
    assert!(!printed.contains("bytes"), "{printed}");
}
