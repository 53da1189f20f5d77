//! The `.harbor` folder: state, admin token and the API's address, where the `harbor` client looks for them.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::node::make_dir;
use crate::{Token, clock};

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// A folder that exists and belongs to its owner alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it (0700) if it is not there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || {
            format!(
                "cannot make the folder {}; run it where you may write, or name another --state-dir",
                path.display()
            )
        };
        make_dir(path).with_context(named)?;
        // A folder that lies in a repository should not be committed with its token.
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").with_context(|| format!("write {}", ignore.display()))?;
        }
        Ok(Self { path: path.into() })
    }

    /// Path of the admin token's file.
    fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    /// The token, made and kept in its file if there is none yet; the file is readable by its owner alone.
    pub(super) fn token(&self) -> anyhow::Result<Token> {
        let path = self.token_file();
        let named = || format!("write the token file {}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(named)?;
                return Token::parse(&text)
                    .with_context(|| format!("{}: remove the file, and the next run makes another", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read the token file {}", path.display())),
        }
        let random: [u8; TOKEN_BYTES] = clock::random().context("make a token")?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let temporary = self.path.join("token.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(named)?;
        writeln!(file, "{text}").and_then(|()| file.sync_all()).with_context(named)?;
        fs::rename(&temporary, &path).with_context(named)?;
        Ok(Token::parse(&text)?)
    }

    /// Leaves the API's address for the client.
    pub(super) fn write_api(&self, url: &str) -> anyhow::Result<()> {
        let path = self.path.join("api");
        fs::write(&path, format!("{url}\n")).with_context(|| format!("write {}", path.display()))
    }

    /// Takes the API's address away again: nobody answers there any more.
    pub(super) fn remove_api(&self) {
        let _ = fs::remove_file(self.path.join("api"));
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_private() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join(".harbor")).unwrap();
        folder.token().unwrap();
        let first = fs::read_to_string(folder.token_file()).unwrap();
        assert_eq!(first.trim().len(), 2 * TOKEN_BYTES);
        assert_eq!(fs::metadata(folder.token_file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        Folder::open(folder.path()).unwrap().token().unwrap();
        assert_eq!(fs::read_to_string(folder.token_file()).unwrap(), first, "a second run finds the first one's token");
    }
}
