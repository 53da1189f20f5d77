//! One request and its answer over one connection. The only place here that opens a socket; decides what counts as an
//! answer, never what the answer means.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use harbor_types::Span;
use harbor_types::wire::Problem;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::request::Request;
use crate::{ClientError, Limits, NodeUrl, Token};

const USER_AGENT: &str = concat!("harbor-client/", env!("CARGO_PKG_VERSION"));
/// How much of an answer that makes no sense is quoted.
const QUOTED: usize = 120;

/// A successful answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

/// Sends `request` and waits for the whole answer.
///
/// # Cancel safety
/// Dropping the future closes the connection; the node may have acted on the request.
pub(crate) async fn exchange(
    url: &NodeUrl,
    token: &Token,
    limits: &Limits,
    request: Request,
) -> Result<Reply, ClientError> {
    let (call, deadline) = (request.summary(), request.deadline);
    let stream = connect(url, limits.connect).await?;
    match timeout(deadline.into(), talk(url, token, limits, stream, request)).await {
        Ok(reply) => reply,
        Err(_) => Err(ClientError::Timeout { url: url.clone(), call, after: deadline }),
    }
}

async fn connect(url: &NodeUrl, deadline: Span) -> Result<TcpStream, ClientError> {
    let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
    let stream = timeout(deadline.into(), TcpStream::connect((url.host(), url.port())))
        .await
        .map_err(|_| unreachable(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {deadline}"))))?
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

async fn talk(
    url: &NodeUrl,
    token: &Token,
    limits: &Limits,
    stream: TcpStream,
    request: Request,
) -> Result<Reply, ClientError> {
    let call = request.summary();
    let broke = |error: hyper::Error| {
        if error.is_parse() {
            bad(url, &call, format!("it is not HTTP ({error})"))
        } else {
            ClientError::Interrupted { url: url.clone(), call: call.clone(), source: error.into() }
        }
    };
    let request = render(url, token, request)
        .map_err(|error| ClientError::Request { call: call.clone(), source: error.into() })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status();
        let body = match Limited::new(response.into_body(), limits.answer).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(bad(url, &call, format!("it is longer than {} bytes", limits.answer)));
            }
            Err(source) => return Err(ClientError::Interrupted { url: url.clone(), call: call.clone(), source }),
        };
        judge(url, &call, status, &body)
    };
    // The connection only moves bytes for the answer; when it fails, the answer does, with the reason.
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        reply = &mut answer => reply,
        _ = &mut connection => answer.await,
    }
}

fn render(url: &NodeUrl, token: &Token, request: Request) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
    let mut bearer = header::HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
    bearer.set_sensitive(true);
    let mut builder = hyper::Request::builder()
        .method(request.method)
        .uri(request.target)
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, bearer);
    if request.body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    builder.body(Full::new(request.body.unwrap_or_default().into()))
}

/// Success, refusal, or no answer of a node's.
fn judge(url: &NodeUrl, call: &str, status: StatusCode, body: &[u8]) -> Result<Reply, ClientError> {
    let problem = || serde_json::from_slice::<Problem>(body).ok();
    if status.is_success() {
        let body = std::str::from_utf8(body).map_err(|_| bad(url, call, "it is not UTF-8".into()))?;
        return Ok(Reply { status, body: body.to_owned() });
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(ClientError::Unauthorized { url: url.clone(), problem: problem() });
    }
    match problem() {
        Some(problem) if status.is_client_error() || status.is_server_error() => {
            Err(ClientError::Refused { status: status.as_u16(), problem })
        }
        _ => Err(bad(url, call, format!("status {status} with {}", quote(body)))),
    }
}

pub(crate) fn bad(url: &NodeUrl, call: &str, reason: String) -> ClientError {
    ClientError::BadAnswer { url: url.clone(), call: call.into(), reason }
}

/// The start of a body, fit for a message.
pub(crate) fn quote(body: &[u8]) -> String {
    if body.is_empty() {
        return "an empty body".into();
    }
    let text = String::from_utf8_lossy(body);
    let shown: String = text.chars().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("the body '{shown}{}'", if text.chars().nth(QUOTED).is_some() { "…" } else { "" })
}
