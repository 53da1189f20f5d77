//! Real files: links that stay inside work, those that leave do not, and nothing but a bounded regular file is read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use harbor_testkit::tools::tool;
use harbor_tls::{Disk, MAX_FILE, PairError};
use tempfile::TempDir;

use crate::rig::app;

/// An app `app` with a folder `certs`, beside a folder `outside` with files of the same names.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        for folder in ["app/certs", "outside"] {
            fs::create_dir_all(place.at(folder)).unwrap();
        }
        place.put("outside/web.crt");
        place.put("outside/web.key");
        place
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str) {
        fs::write(self.at(path), path).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        symlink(target, self.at(path)).unwrap();
    }

    /// What the certificate file of service `web` holds.
    fn look(&self) -> Result<String, PairError> {
        let found = app(self.at("app"), "web").look(&Disk)?;
        Ok(String::from_utf8(found.certificate_bytes).unwrap())
    }

    fn refused(&self, why: &str) {
        let error = self.look().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn plain_files_are_read() {
    let place = Place::new();
    place.put("app/certs/web.crt");
    place.put("app/certs/web.key");
    assert_eq!(place.look().unwrap(), "app/certs/web.crt");
}

#[test]
fn links_that_stay_inside_work() {
    let place = Place::new();
    fs::create_dir_all(place.at("app/certs/v1")).unwrap();
    place.put("app/certs/v1/web.crt");
    place.put("app/certs/v1/web.key");
    // As mounted secrets are laid out: file → link to a folder → folder.
    place.link("v1", "app/certs/..data");
    place.link("..data/web.crt", "app/certs/web.crt");
    place.link(place.at("app/certs/v1/web.key"), "app/certs/web.key"); // absolute
    assert_eq!(place.look().unwrap(), "app/certs/v1/web.crt");
}

#[test]
fn the_folder_may_be_a_link_inside_the_app_and_the_app_a_link_to_anywhere() {
    let place = Place::new();
    fs::remove_dir(place.at("app/certs")).unwrap();
    fs::create_dir_all(place.at("app/config/tls")).unwrap();
    place.link("config/tls", "app/certs");
    place.put("app/config/tls/web.crt");
    place.put("app/config/tls/web.key");
    place.link("app", "current");
    assert_eq!(place.look().unwrap(), "app/config/tls/web.crt");
    assert!(app(place.at("current"), "web").look(&Disk).is_ok());
}

#[test]
fn links_that_leave_are_refused_and_say_where_they_lead() {
    let place = Place::new();
    place.put("app/certs/web.crt");
    place.link("../../outside/web.key", "app/certs/web.key");
    let outside = fs::canonicalize(place.at("outside/web.key")).unwrap();
    place.refused(&format!("web.key leads to {}, outside ", outside.display()));

    let place = Place::new();
    place.link(place.at("outside/web.crt"), "app/certs/web.crt");
    place.put("app/certs/web.key");
    place.refused("web.crt leads to ");

    let place = Place::new();
    place.put("app/web.crt");
    place.link("../web.crt", "app/certs/web.crt"); // inside the app, outside its folder
    place.put("app/certs/web.key");
    place.refused("web.crt leads to ");

    let place = Place::new();
    fs::remove_dir(place.at("app/certs")).unwrap();
    place.link("../outside", "app/certs");
    place.refused("leads to ");
}

#[test]
fn what_is_no_readable_file_says_what_it_is() {
    let place = Place::new();
    place.put("app/certs/web.key");
    let crt = "app/certs/web.crt";

    place.link("nowhere.crt", crt);
    place.refused("web.crt is a link to something that is not there");
    fs::remove_file(place.at(crt)).unwrap();

    place.link("web.crt", crt); // to itself: not even root can open it
    place.refused("web.crt cannot be read: ");
    fs::remove_file(place.at(crt)).unwrap();

    fs::create_dir(place.at(crt)).unwrap();
    place.refused("web.crt is not a regular file");
    fs::remove_dir(place.at(crt)).unwrap();

    if let Some(mkfifo) = tool("mkfifo") {
        assert!(Command::new(mkfifo).arg(place.at(crt)).status().unwrap().success());
        place.refused("web.crt is not a regular file"); // and does not wait for a writer
        fs::remove_file(place.at(crt)).unwrap();
    }
    fs::remove_dir_all(place.at("app/certs")).unwrap();
    place.put("app/certs");
    place.refused("web.crt cannot be read: ");
}

#[test]
fn a_file_above_the_cap_is_not_read_to_its_end() {
    let place = Place::new();
    place.put("app/certs/web.key");
    let file = fs::File::create(place.at("app/certs/web.crt")).unwrap();
    file.set_len(MAX_FILE).unwrap();
    assert_eq!(place.look().unwrap().len() as u64, MAX_FILE);
    file.set_len(1 << 40).unwrap();
    place.refused("web.crt has 1099511627776 bytes or more; at most 1048576 are read");
}

#[test]
fn a_file_that_is_exchanged_all_the_time_is_read_whole_or_not_at_all() {
    let place = Place::new();
    place.put("app/certs/web.key");
    let texts = ["a".repeat(60_000), "b".repeat(60_000)];
    let crt = place.at("app/certs/web.crt");
    fs::write(&crt, &texts[0]).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for text in texts.iter().cycle().take(500) {
                let next = place.at("app/certs/next");
                fs::write(&next, text).unwrap();
                fs::rename(&next, &crt).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut whole = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            match place.look() {
                Ok(text) => {
                    assert!(texts.contains(&text), "a mixture");
                    whole += 1;
                }
                Err(error) => assert!(error.to_string().contains("keeps changing"), "{error}"),
            }
        }
        assert!(whole > 0, "never read while it was exchanged");
    });
}
