//! Embeds TLS in a server of one's own: the pair found by service name, handshakes with a deadline and caps, and a new
//! certificate that is served while a connection goes on. Works in a temporary folder, checks what it claims, exits 0.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use harbor_tls::rustls::RootCertStore;
use harbor_tls::rustls::client::ClientConfig;
use harbor_tls::rustls::crypto::aws_lc_rs::default_provider;
use harbor_tls::rustls::pki_types::{CertificateDer, ServerName};
use harbor_tls::{Acceptor, Current, Disk, HandshakeLimits, Pair, PairSource, Reloader, Timing, server_config};
use harbor_types::{ServiceName, WallTime};
use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NAME: &str = "app.example";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), run()).await.context("took too long")?
}

async fn run() -> anyhow::Result<()> {
    let app = tempfile::tempdir()?;
    std::fs::create_dir(app.path().join("certs"))?;
    let first = write_pair(app.path())?;

    // Which files: certs/echo-https.crt and .key if there are any, else certs/harbor.crt and .key.
    let source = PairSource::App { root: app.path().to_owned(), service: ServiceName::parse("echo-https")? };
    let current = Arc::new(Current::new(Pair::load(&source, &Disk)?));
    let pair = current.load();
    let now = WallTime::from(std::time::SystemTime::now());
    println!("{} valid until {}", pair.facts().certificate.display(), pair.facts().not_after.to_rfc3339());
    ensure!(pair.facts().warning(now).is_none(), "made just now");

    // The files are watched for as long as the program runs; what happens to them is a state to be logged and exported.
    let reloader = Reloader::new(source, Disk, Timing::default(), Arc::clone(&current));
    let mut status = reloader.status();
    tokio::spawn(reloader.run(std::future::pending()));

    let acceptor = Acceptor::new(server_config(current, &[b"echo"])?, HandshakeLimits::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(serve(listener, acceptor.clone()));

    let mut before = connect(addr, &first).await?;
    ensure!(echo(&mut before, b"with the first certificate").await?);

    let second = write_pair(app.path())?;
    let changed = status.wait_for(|status| status.reloads == 1).await?;
    println!("now serving {}", changed.serving.facts().fingerprint);
    drop(changed);

    let mut after = connect(addr, &second).await?;
    ensure!(echo(&mut after, b"with the second certificate").await?);
    ensure!(echo(&mut before, b"on the connection from before").await?);
    ensure!(connect(addr, &first).await.is_err(), "the first certificate is still served");

    // That last client gave up with an alert, as it trusts the first certificate only.
    let counts = acceptor.counts();
    println!("{} handshakes completed, {} refused", counts.completed, counts.all_refused());
    ensure!(counts.completed == 2, "unexpected: {counts:?}");
    Ok(())
}

/// Accepts for as long as the program runs. A connection that gets no session leaves its reason in the counts.
async fn serve(listener: TcpListener, acceptor: Acceptor) -> std::io::Result<()> {
    loop {
        let (stream, client) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor.accept(stream, client.ip()).await {
                Ok(stream) => {
                    let (mut from, mut to) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                }
                Err(error) => println!("{client}: {error}"),
            }
        });
    }
}

/// Makes a self-signed pair for [`NAME`] and puts it where it applies to every service.
fn write_pair(app: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(app.join("certs/harbor.crt"), cert.pem())?;
    std::fs::write(app.join("certs/harbor.key"), signing_key.serialize_pem())?;
    Ok(cert.der().clone())
}

/// A client that trusts this one certificate.
async fn connect(addr: SocketAddr, trusted: &CertificateDer<'static>) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(addr).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME)?, stream).await?)
}

async fn echo(stream: &mut TlsStream<TcpStream>, text: &[u8]) -> anyhow::Result<bool> {
    let mut answer = vec![0; text.len()];
    stream.write_all(text).await?;
    stream.read_exact(&mut answer).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(answer == text)
}
