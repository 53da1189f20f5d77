//! A certificate authority, files in memory, a TLS server and its clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use harbor_testkit::wait::bounded;
use harbor_tls::rustls::client::ClientConfig;
use harbor_tls::rustls::crypto::aws_lc_rs::default_provider;
use harbor_tls::rustls::pki_types::{CertificateDer, ServerName};
use harbor_tls::rustls::{RootCertStore, SupportedProtocolVersion};
use harbor_tls::{
    Acceptor, Current, Fence, Files, HandshakeError, HandshakeLimits, Origin, Pair, PairBytes, PairError, PairSource,
    Problem, TlsStream, server_config,
};
use harbor_types::ServiceName;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

/// The name in every certificate.
pub(crate) const NAME: &str = "app.example";

/// A root that clients trust, and an intermediate that servers must send.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf with its key.
pub(crate) struct Issued {
    pub(crate) leaf: CertificateDer<'static>,
    /// The leaf alone, as PEM.
    pub(crate) alone: String,
    /// The leaf and the intermediate, as PEM.
    pub(crate) chain: String,
    /// The key, as PEM.
    pub(crate) key: String,
}

pub(crate) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(authority("intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, intermediate }
    }

    pub(crate) fn issue(&self) -> Issued {
        self.issue_as(&named("leaf"))
    }

    pub(crate) fn issue_as(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        Issued {
            leaf: leaf.der().clone(),
            alone: leaf.pem(),
            chain: leaf.pem() + &self.intermediate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn intermediate_pem(&self) -> String {
        self.intermediate.pem()
    }

    /// A client that trusts the root.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&[], rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_with(&self, protocols: &[&[u8]], versions: &[&'static SupportedProtocolVersion]) -> Client {
        Client::trusting(self.root.der(), protocols, versions)
    }
}

/// A pair from bytes in memory.
pub(crate) fn pair(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Pair, PairError> {
    Pair::check(&PairBytes {
        service: None,
        origin: Origin::Paths,
        certificate: "x.crt".into(),
        key: "x.key".into(),
        passed_over: Vec::new(),
        certificate_bytes: certificate.as_ref().to_vec(),
        key_bytes: key.as_ref().to_vec(),
    })
}

/// The pair of `issued`, ready to be served.
pub(crate) fn current(issued: &Issued) -> Arc<Current> {
    Arc::new(Current::new(pair(&issued.chain, &issued.key).unwrap()))
}

/// Serves `issued` without application protocols and within the default limits.
pub(crate) fn acceptor(issued: &Issued) -> Acceptor {
    acceptor_with(issued, &[], HandshakeLimits::default())
}

pub(crate) fn acceptor_with(issued: &Issued, protocols: &[&[u8]], limits: HandshakeLimits) -> Acceptor {
    Acceptor::new(server_config(current(issued), protocols).unwrap(), limits)
}

/// Files that exist in memory only, and problems in place of files.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl Memory {
    pub(crate) fn with(files: &[&str]) -> Self {
        let memory = Self::default();
        files.iter().for_each(|path| memory.put(path, path.as_bytes()));
        memory
    }

    pub(crate) fn put(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        self.0.lock().unwrap().insert(path.as_ref().to_path_buf(), bytes.as_ref().to_vec());
    }

    pub(crate) fn remove(&self, path: impl AsRef<Path>) {
        self.0.lock().unwrap().remove(path.as_ref()).unwrap();
    }
}

impl Files for Memory {
    fn read(&self, path: &Path, _fence: Option<&Fence>) -> Result<Vec<u8>, Problem> {
        self.0.lock().unwrap().get(path).cloned().ok_or(Problem::Missing)
    }
}

/// The pair of service `name` under `root`.
pub(crate) fn app(root: impl Into<PathBuf>, name: &str) -> PairSource {
    PairSource::App { root: root.into(), service: ServiceName::parse(name).unwrap() }
}

/// A TLS client; remembers sessions.
#[derive(Clone)]
pub(crate) struct Client(TlsConnector);

impl Client {
    pub(crate) fn trusting(
        root: &CertificateDer<'static>,
        protocols: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self(Arc::new(config).into())
    }

    /// The client's part of a handshake on a stream of any kind.
    pub(crate) async fn handshake<S>(&self, stream: S) -> std::io::Result<client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.0.connect(ServerName::try_from(NAME).unwrap(), stream).await
    }

    /// A session with the server at `addr`.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> std::io::Result<client::TlsStream<TcpStream>> {
        self.handshake(TcpStream::connect(addr).await?).await
    }
}

/// A client that reads no ticket sees no resumption: one byte there and back.
pub(crate) async fn exchange<S>(stream: &mut client::TlsStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut answer = [0];
    stream.write_all(b"x").await.unwrap();
    bounded("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"x");
}

/// The leaf that the server showed.
pub(crate) fn shown<S>(stream: &client::TlsStream<S>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone().into_owned()
}

pub(crate) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Both parts of a handshake, in memory.
pub(crate) async fn both(
    acceptor: &Acceptor,
    client: &Client,
) -> (Result<TlsStream<DuplexStream>, HandshakeError>, std::io::Result<client::TlsStream<DuplexStream>>) {
    let (near, far) = tokio::io::duplex(1 << 14);
    bounded("a handshake", async { tokio::join!(acceptor.accept(far, SOURCE), client.handshake(near)) }).await
}

/// Echoes over TLS on a loopback port, for as long as the test's runtime lives.
pub(crate) async fn echo_server(acceptor: Acceptor) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Refusals are counted by the acceptor, and a client that goes away is no concern here.
                let Ok(stream) = acceptor.accept(stream, peer.ip()).await else { return };
                let (mut from, mut to) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    addr
}
