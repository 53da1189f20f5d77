//! Which node, and with which token. The order of precedence is the one that `harbor --help` prints.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use harbor_client::{Client, ClientError, NodeUrl, Token};

use crate::Surroundings;
use crate::failure::Failure;

/// Where a node listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8700";
/// The folder that `harbor-node dev` makes; `api` in it is the node's address, `token` its token.
const DEV_FOLDER: &str = ".harbor";
/// Longest address or token file, in bytes.
const MAX_FILE: u64 = 8192;

/// A client, and where its address and token came from.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    url_from: String,
    token_from: String,
}

impl Connection {
    /// The failure that `error` is, saying where a wrong address or token was found.
    pub(crate) fn failure(&self, error: ClientError) -> Failure {
        let hint = match &error {
            ClientError::Unreachable { .. } | ClientError::BadAnswer { .. } => {
                Some(format!("this address comes from {}", self.url_from))
            }
            ClientError::Unauthorized { .. } => Some(format!("this token comes from {}", self.token_from)),
            _ => None,
        };
        Failure::Call { error: Box::new(error), hint }
    }
}

/// What is in a `.harbor` folder.
struct DevFolder {
    path: PathBuf,
    url: Option<NodeUrl>,
}

/// Finds the node and the token.
pub(crate) fn find(flag: Option<NodeUrl>, around: &Surroundings) -> Result<Connection, Failure> {
    let var = |name: &str| around.vars.get(name).filter(|value| !value.trim().is_empty());
    let folder = dev_folder(&around.folder)?;
    let default: NodeUrl = DEFAULT_URL.parse().map_err(|error| settings("the default address", error))?;

    let (url, url_from) = if let Some(url) = flag {
        (url, "--url".to_owned())
    } else if let Some(text) = var("HARBOR_URL") {
        (text.trim().parse().map_err(|error| settings("HARBOR_URL", error))?, "HARBOR_URL".into())
    } else if let Some((folder, url)) = folder.as_ref().and_then(|folder| Some((folder, folder.url.clone()?))) {
        (url, folder.path.join("api").display().to_string())
    } else {
        (default.clone(), "the default".into())
    };

    let (token, token_from) = if let Some(text) = var("HARBOR_TOKEN") {
        (Token::parse(text).map_err(|error| settings("HARBOR_TOKEN", error))?, "HARBOR_TOKEN".to_owned())
    } else if let Some(path) = var("HARBOR_TOKEN_FILE") {
        // A relative path counts from the current folder, as everywhere.
        let path = around.folder.join(path);
        (read_token(&path, "HARBOR_TOKEN_FILE")?, format!("{} (HARBOR_TOKEN_FILE)", path.display()))
    } else if let Some(folder) = folder.filter(|folder| folder.path.join("token").exists()) {
        let path = folder.path.join("token");
        let own = folder.url.unwrap_or(default);
        if own != url {
            return Err(Failure::Settings {
                what: format!("there is no token for {url}; the one in {} belongs to {own}", path.display()),
                remedy: "set HARBOR_TOKEN or HARBOR_TOKEN_FILE for this node, or leave the address away".into(),
            });
        }
        (read_token(&path, "the .harbor folder")?, path.display().to_string())
    } else {
        return Err(Failure::Settings {
            what: format!("there is no token for {url}"),
            remedy: "set HARBOR_TOKEN or HARBOR_TOKEN_FILE, or go to the folder that harbor-node dev was started in"
                .into(),
        });
    };
    Ok(Connection { client: Client::new(url, token), url_from, token_from })
}

/// The nearest `.harbor` folder with an address or a token in it, from `start` upwards.
fn dev_folder(start: &Path) -> Result<Option<DevFolder>, Failure> {
    for folder in start.ancestors() {
        let path = folder.join(DEV_FOLDER);
        let api = path.join("api");
        match read_text(&api) {
            Ok(text) => {
                let url = text.trim().parse().map_err(|error| settings(&api.display().to_string(), error))?;
                return Ok(Some(DevFolder { path, url: Some(url) }));
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(settings(&api.display().to_string(), error)),
        }
        if path.join("token").exists() {
            return Ok(Some(DevFolder { path, url: None }));
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_token(path: &Path, from: &str) -> Result<Token, Failure> {
    let place = format!("{} ({from})", path.display());
    let text = read_text(path).map_err(|error| settings(&place, error))?;
    Token::parse(&text).map_err(|error| settings(&place, error))
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn settings(place: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Settings {
        what: format!("{place} cannot be used: {error}"),
        remedy: "correct it, or take another way to name the node and its token: see harbor --help".into(),
    }
}
