//! HTTP and HTTPS as a client, for processes without privileges: what comes back was written by a stranger. GET of a file of any
//! length, and an exchange of short texts. Verifies
//! certificates by the authorities that it is given and by no others, looks names up by itself, and needs no program and no
//! library of a layer. Opens no file.

#![forbid(unsafe_code)]

pub mod dns;

pub use dns::Names;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use ureq::config::ConfigBuilder;
use ureq::http::{Request, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout, RustlsConnector, TcpConnector};
use ureq::{Agent, Error};

/// Between two bytes; a slow line is waited for as long as it brings any.
pub const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: u32 = 5;
const MAX_HEADER: usize = 32 << 10;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub url: String,
    /// The first byte that is wanted.
    pub from: u64,
    pub names: Names,
    /// Certificates (PEM) of the authorities that are believed; where nobody is, no `https:` URL is fetched.
    pub authorities: Vec<u8>,
}

/// An answer whose bytes are still to come.
pub struct Answer {
    /// Which byte of the whole is the first; 0 where the server cannot begin elsewhere.
    pub from: u64,
    /// Of the whole, where the server says so.
    pub length: Option<u64>,
    pub body: Box<dyn Read>,
}

/// A question whose answer is short.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub url: String,
    pub headers: Vec<(&'static str, &'static str)>,
    /// With one it is a POST, without a GET.
    pub body: Option<String>,
    pub names: Names,
    /// As in [`Ask`].
    pub authorities: Vec<u8>,
}

/// How long an exchange may take, from the name's look-up to the last byte, and the most bytes of its answer.
const EXCHANGE: Duration = Duration::from_secs(30);
const MAX_ANSWER: u64 = 1 << 20;

/// What [`get`] says of a server that has no such file.
pub const NO_SUCH_FILE: &str = "the server has no such file (404)";

/// Errors are for people, and name no URL.
pub fn get(ask: &Ask) -> Result<Answer, String> {
    let config = config(&ask.url, &ask.authorities)?
        .max_redirects(MAX_REDIRECTS)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    let mut request = agent(config, &ask.names).get(&ask.url);
    if ask.from > 0 {
        request = request.header("Range", format!("bytes={}-", ask.from));
    }
    let response = request.call().map_err(|error| reason(&error))?;
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim().to_string());
    let length = header("content-length").and_then(|text| text.parse().ok());
    let (from, length) = match response.status().as_u16() {
        200 => (0, length),
        206 => header("content-range")
            .and_then(|text| range(&text))
            .filter(|(from, _)| *from <= ask.from)
            .ok_or("it answered with a part that was not asked for")?,
        other => return Err(format!("the server answered with {other}")),
    };
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Answer { from, length, body: Box::new(body) })
}

/// Asks, and gives the status and the text of whatever answer comes. Nothing leads elsewhere: a question may hold a secret that
/// is meant for this server. Errors are for people, and name no URL.
pub fn exchange(exchange: &Exchange) -> Result<(u16, Vec<u8>), String> {
    let config = config(&exchange.url, &exchange.authorities)?
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(EXCHANGE));
    let method = if exchange.body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(&exchange.url);
    for (name, value) in &exchange.headers {
        request = request.header(*name, *value);
    }
    let wrong = |error: ureq::http::Error| error.to_string();
    let agent = agent(config, &exchange.names);
    let answer = match &exchange.body {
        Some(body) => agent.run(request.body(body.as_str()).map_err(wrong)?),
        None => agent.run(request.body(()).map_err(wrong)?),
    };
    let answer = answer.map_err(|error| reason(&error))?;
    let status = answer.status().as_u16();
    let body = answer.into_body().into_with_config().limit(MAX_ANSWER).read_to_vec();
    Ok((status, body.map_err(|error| reason(&error))?))
}

/// The address of this machine that the server of a URL sees, as far as this machine knows. Nothing is sent for it but the
/// look-up of a name.
pub fn own_address(url: &str, names: &Names) -> Result<IpAddr, String> {
    let wrong = || "it names no server".to_string();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let found = names.look_up(host).map_err(|error| reason(&Error::Io(error)))?;
    let own = |address: &IpAddr| {
        let any: IpAddr = if address.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // connect(2) of a datagram socket chooses the route, and sends nothing; the port is of no matter.
        socket.connect((*address, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    found.iter().find_map(own).ok_or_else(|| "nothing leads there from here".to_string())
}

/// What every question of this page has in common. `Err` where nobody is believed who could vouch for the other side.
fn config(url: &str, authorities: &[u8]) -> Result<ConfigBuilder<AgentScope>, String> {
    let is_encrypted = url.starts_with("https://");
    let authorities: Vec<_> = parse_pem(authorities)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if is_encrypted && authorities.is_empty() {
        return Err(
            "there are no certificates to check it by (rescue.ca=, or the platform's roots)".to_string()
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        // From an encrypted page nothing leads back to a plain one.
        .https_only(is_encrypted)
        .proxy(None)
        .max_response_header_size(MAX_HEADER)
        .user_agent("lifeboat")
        .accept_encoding("identity"))
}

fn agent(config: ConfigBuilder<AgentScope>, names: &Names) -> Agent {
    let connector = TcpConnector::default().chain(RustlsConnector::default());
    Agent::with_parts(config.build(), connector, Own(names.clone()))
}

/// `bytes 100-199/200` (RFC 9110, section 14.4): where it begins, and the length of the whole.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (part, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = part.trim().split_once('-')?;
    Some((from.parse().ok()?, whole.trim().parse().ok()))
}

fn reason(error: &Error) -> String {
    match error {
        Error::StatusCode(404) => NO_SUCH_FILE.to_string(),
        Error::StatusCode(status) => format!("the server refused ({status})"),
        Error::HostNotFound => "its name cannot be looked up".to_string(),
        Error::Timeout(_) => "the server does not answer in time".to_string(),
        Error::ConnectionFailed => "nobody answers there".to_string(),
        Error::RequireHttpsOnly(_) => "it leads from https: to http:".to_string(),
        Error::TooManyRedirects => "it leads from one place to the next, and so on".to_string(),
        Error::Rustls(error) => certificate(error),
        Error::Io(error) => io_reason(error),
        other => other.to_string().chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

/// Of a handshake or a read, whose cause may lie inside.
fn io_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, error.kind()) {
        (Some(error), _) => certificate(error),
        (None, io::ErrorKind::ConnectionRefused) => "nobody answers there".to_string(),
        (None, _) => error.to_string(),
    }
}

/// Without the time, which is another one at each attempt.
fn certificate(error: &rustls::Error) -> String {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let text = match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "it has expired".to_string(),
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "it is not valid yet".to_string()
        }
        other => other.to_string(),
    };
    format!("its certificate is not trusted ({text}; is the clock of this machine right?)")
}

#[derive(Debug)]
struct Own(Names);

impl Resolver for Own {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let mut found = self.empty();
        for address in self.0.look_up(host)? {
            found.push(SocketAddr::new(address, port));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// A server that gives this answer to whatever it is asked, and then its question.
    fn server(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut asked).unwrap() > 2 {}
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        (url, asked)
    }

    type Fetched = Result<(u64, Option<u64>, String), String>;

    fn fetched(answer: &'static str, from: u64) -> (Fetched, String) {
        let (url, asked) = server(answer);
        let result = get(&Ask { url, from, ..Ask::default() });
        let result = result.map(|mut answer| {
            let mut text = Vec::new();
            let _ = answer.body.read_to_end(&mut text);
            (answer.from, answer.length, String::from_utf8(text).unwrap())
        });
        (result, asked.join().unwrap())
    }

    #[test]
    fn a_server_begins_where_it_is_asked_to_or_at_the_beginning() {
        let part =
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-5/6\r\nContent-Length: 3\r\n\r\ndef";
        let (result, asked) = fetched(part, 3);
        assert_eq!(result, Ok((3, Some(6), "def".to_string())));
        assert!(asked.to_lowercase().contains("range: bytes=3-"), "{asked}");
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef";
        assert_eq!(fetched(whole, 3).0, Ok((0, Some(6), "abcdef".to_string())));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
        assert_eq!(fetched(chunks, 0).0, Ok((0, None, "abcdef".to_string())));
        let other =
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-5/6\r\nContent-Length: 2\r\n\r\nef";
        assert!(fetched(other, 3).0.is_err());
    }

    #[test]
    fn what_went_wrong_is_said_in_words() {
        let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetched(none, 0).0, Err("the server has no such file (404)".to_string()));
        let encrypted = get(&Ask { url: "https://127.0.0.1:1/x".into(), ..Ask::default() });
        assert!(encrypted.err().unwrap().contains("no certificates"));
        let nobody = get(&Ask { url: "http://127.0.0.1:1/x".into(), ..Ask::default() });
        assert_eq!(nobody.err().unwrap(), "nobody answers there");
    }
}
