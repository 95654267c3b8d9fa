//! HTTP and HTTPS as a client, for processes without privileges: what comes back was written by a stranger. GET of a file of any
//! length, and an exchange of short texts. Verifies
//! certificates by the authorities that it is given and by no others, looks names up by itself, and needs no program and no
//! library of a layer. Opens no file.

#![forbid(unsafe_code)]

pub mod dns;

use base64::prelude::{BASE64_STANDARD, Engine as _};
pub use dns::Names;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use ureq::config::{ConfigBuilder, RedirectAuthHeaders};
use ureq::http::{Request, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout, RustlsConnector, TcpConnector};
use ureq::{Agent, Error, ResponseExt as _};

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

const NO_URL: &str = "it is no URL";

/// A name and password in the URL go to its server, and to no other that it leads to. Errors are for people, and name no URL.
pub fn get(ask: &Ask) -> Result<Answer, String> {
    let config = config(&ask.url, &ask.authorities)?
        .max_redirects(MAX_REDIRECTS)
        // A name and password go with no redirect by themselves.
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    let (url, login) = apart(&ask.url);
    let mut uri: Uri = url.parse().map_err(|_| NO_URL)?;
    let agent = agent(config, &ask.names);
    let mut left = MAX_REDIRECTS;
    let response = loop {
        let mut request = agent.get(uri.clone());
        if let Some(login) = &login {
            request = request.header("Authorization", login);
        }
        if ask.from > 0 {
            request = request.header("Range", format!("bytes={}-", ask.from));
        }
        let response = request.call().map_err(|error| reason(&error))?;
        let asks_again = login.is_some() && response.status() == 401 && response.get_uri() != &uri;
        if !asks_again || left == 0 || !is_same_server(response.get_uri(), &uri) {
            break response;
        }
        // Led to another place of the same server, which may hear them there too.
        (uri, left) = (response.get_uri().clone(), left - 1);
    };
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim().to_string());
    let length = header("content-length").and_then(|text| text.parse().ok());
    let (from, length) = match response.status().as_u16() {
        200 => (0, length),
        206 => header("content-range")
            .and_then(|text| range(&text))
            .filter(|(from, _)| *from <= ask.from)
            .ok_or("it answered with a part that was not asked for")?,
        status @ 400.. => return Err(reason(&Error::StatusCode(status))),
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
    let (url, login) = apart(&exchange.url);
    let mut request = Request::builder().method(method).uri(&url);
    if let Some(login) = login {
        request = request.header("Authorization", login);
    }
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
    let uri: Uri = apart(url).0.parse().map_err(|_| wrong())?;
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

/// A URL without the name and password in it, and the value of an Authorization header that holds those (RFC 7617). They are
/// percent-encoded in a URL (RFC 3986, section 3.2.1), and as they are in the header. As curl has it, of several `@` the last one
/// ends them.
fn apart(url: &str) -> (String, Option<String>) {
    let whole = || (url.to_string(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((login, host)) = authority.rsplit_once('@') else { return whole() };
    let (name, password) = login.split_once(':').unwrap_or((login, ""));
    let login = [&decoded(name)[..], b":", &decoded(password)].concat();
    (format!("{scheme}://{host}{path}"), Some(format!("Basic {}", BASE64_STANDARD.encode(login))))
}

/// `p%40ss` is `p@ss`. A percent sign without two digits after it stays.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (mut bytes, mut at) = (Vec::new(), text.as_bytes());
    while let Some((first, rest)) = at.split_first() {
        let code = (*first == b'%').then(|| Some(digit(rest.first())? * 16 + digit(rest.get(1))?)).flatten();
        // Two digits make no more than 255.
        let code = code.and_then(|code| u8::try_from(code).ok());
        bytes.push(code.unwrap_or(*first));
        at = if code.is_some() { &rest[2..] } else { rest };
    }
    bytes
}

/// What heard a name and password may hear them again: same scheme, host and port.
fn is_same_server(one: &Uri, other: &Uri) -> bool {
    let server =
        |uri: &Uri| Some((uri.scheme_str()?.to_string(), uri.host()?.to_ascii_lowercase(), port(uri)));
    server(one).is_some_and(|one| server(other) == Some(one))
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
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
        let mut found = self.empty();
        for address in self.0.look_up(host)? {
            found.push(SocketAddr::new(address, port(uri)));
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

    /// A server that gives these answers, each to a connection of its own, and what it was asked, as it is asked.
    fn server_of(answers: Vec<String>) -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (asked, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut question).unwrap() > 2 {}
                asked.send(question).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (place, hears)
    }

    fn answer(status: &str, header: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n")
    }

    /// The value of the header, of each question by now.
    fn logins(asked: &std::sync::mpsc::Receiver<String>) -> Vec<Option<String>> {
        let login = |question: String| {
            question.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_string())
            })
        };
        asked.try_iter().map(login).collect()
    }

    #[test]
    fn a_name_and_password_are_what_the_url_s_percent_signs_stand_for() {
        for (login, want) in [
            ("me:p%40ss", "me:p@ss"),
            ("me:p%2Fs%3as%25", "me:p/s:s%"),
            ("a%20b:%c3%a4", "a b:\u{e4}"),
            ("me:100%", "me:100%"),
            ("me:%4", "me:%4"),
            ("me:%zz%e", "me:%zz%e"),
            ("me:p@ss", "me:p@ss"),
            ("me:a:b", "me:a:b"),
            ("me", "me:"),
            (":x", ":x"),
        ] {
            let want = Some(format!("Basic {}", BASE64_STANDARD.encode(want)));
            let (place, asked) = server_of(vec![answer("200 OK", ""), answer("200 OK", "")]);
            let url = format!("http://{login}@{place}/x@y?z@");
            get(&Ask { url: url.clone(), ..Ask::default() }).map(drop).unwrap();
            exchange(&Exchange { url, ..Exchange::default() }).map(drop).unwrap();
            assert_eq!(logins(&asked), [want.clone(), want], "{login}");
        }
        let (place, asked) = server_of(vec![answer("200 OK", "")]);
        get(&Ask { url: format!("http://{place}/me:p@ss"), ..Ask::default() }).map(drop).unwrap();
        assert_eq!(logins(&asked), [None], "behind the host it is a path");
    }

    #[test]
    fn a_name_and_password_are_told_to_the_url_s_own_server_and_to_no_other_that_it_leads_to() {
        let me = Some(format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
        let wants = |place: &str| answer("302 Found", &format!("Location: {place}\r\n"));
        let refuses = || answer("401 Unauthorized", "WWW-Authenticate: Basic\r\n");
        let fetch = |place: &str| {
            let ask = Ask { url: format!("http://me:p%40ss@{place}/x"), from: 3, ..Ask::default() };
            get(&ask).map(drop)
        };

        // Another port, by a URL and by one without a scheme.
        for scheme in ["http:", ""] {
            let (other, of_other) = server_of(vec![refuses()]);
            let (place, asked) = server_of(vec![wants(&format!("{scheme}//{other}/y"))]);
            assert_eq!(fetch(&place), Err("the server refused (401)".to_string()));
            assert_eq!((logins(&asked), logins(&of_other)), (vec![me.clone()], vec![None]));
        }
        // Another place of the same server, which asks for them there.
        let (place, asked) = server_of(vec![wants("/y/"), refuses(), answer("200 OK", "")]);
        assert_eq!(fetch(&place), Ok(()));
        assert_eq!(logins(&asked), [me.clone(), None, me.clone()]);
        // And does not take them, or leads on and on.
        let (place, asked) = server_of(vec![wants("/y/"), refuses(), refuses()]);
        assert_eq!(fetch(&place), Err("the server refused (401)".to_string()));
        assert_eq!(logins(&asked), [me.clone(), None, me.clone()]);
        let round = (0..20).flat_map(|n| [wants(&format!("/{n}")), refuses()]).collect();
        let (place, asked) = server_of(round);
        assert_eq!(fetch(&place), Err("the server refused (401)".to_string()));
        assert_eq!(logins(&asked).len(), 2 * (1 + MAX_REDIRECTS as usize));
    }

    #[test]
    fn the_same_server_is_one_of_the_same_scheme_name_and_port() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        for (other, want) in [
            ("https://a/y", true),
            ("https://A:443/x?z", true),
            ("http://a/x", false),
            ("http://a:443/x", false),
            ("https://a:8443/x", false),
            ("https://a.example/x", false),
        ] {
            assert_eq!(is_same_server(&uri("https://a/x"), &uri(other)), want, "{other}");
        }
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
