//! Requests of HTTP/1.1 (RFC 9112) as a conductor of Ironic makes them, and nobody else: one to a connection, with a length
//! that is said, and small. What is more than that is refused with a status.

/// Most bytes of the request line and the header, and of the body.
const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub is_post: bool,
    /// Without the query, and without a slash at its end.
    pub path: String,
    /// As it came, behind the question mark.
    query: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of this name, where its escapes are in order.
    pub fn query(&self, name: &str) -> Option<Vec<u8>> {
        let pair =
            |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
        let (_, value) = self.query.split('&').filter_map(pair).find(|(known, _)| known == name)?;
        unescaped(&value)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// The status, and why.
    Refused(u16, &'static str),
    Whole(Request),
}

/// What has come of a request so far.
pub fn read(bytes: &[u8]) -> Progress {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Progress::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Progress::Refused(431, "the header is too long");
        }
        Err(_) => return Progress::Refused(400, "this is no request of HTTP/1.1"),
    };
    let is_post = match head.method {
        Some("GET") => false,
        Some("POST") => true,
        _ => return Progress::Refused(405, "only GET and POST are known"),
    };
    let mut expected = None;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Progress::Refused(411, "a body needs a Content-Length");
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            // Digits alone (RFC 9110, section 8.6), and once.
            let digits = std::str::from_utf8(header.value).ok();
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|text| text.parse::<usize>().ok()) {
                Some(length) if expected.is_none() => expected = Some(length),
                _ => return Progress::Refused(400, "the Content-Length cannot be read"),
            }
        }
    }
    let expected = match expected {
        Some(length) if length > MAX_BODY => return Progress::Refused(413, "the body is too long"),
        Some(length) => length,
        None if is_post => return Progress::Refused(411, "a body needs a Content-Length"),
        None => 0,
    };
    let Some(body) = bytes[length..].get(..expected) else { return Progress::More };
    let target = head.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Progress::Whole(Request {
        is_post,
        path: path.trim_end_matches('/').to_string(),
        query: query.to_string(),
        body: body.to_vec(),
    })
}

/// `%41` is `A` (RFC 3986, section 2.1).
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(if byte == b'%' { u8::try_from(digit()? << 4 | digit()?).ok()? } else { byte });
    }
    Some(out)
}

/// An answer, after which the connection ends.
pub fn response(status: u16, body: &str) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        _ => "Refused",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match read(text.as_bytes()) {
            Progress::Whole(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        // As python-requests writes it.
        let text = "POST /v1/commands/?wait=false&agent_token=a%2Bb HTTP/1.1\r\nHost: 192.0.2.5:9999\r\n\
                    User-Agent: python-requests/2.34.2\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nbody";
        for end in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..end]), Progress::More, "{end}");
        }
        let request = whole(text);
        assert!(request.is_post && request.path == "/v1/commands" && request.body == b"body");
        assert_eq!(request.query("agent_token").unwrap(), b"a+b");
        assert_eq!(request.query("wait").unwrap(), b"false");
        assert_eq!(request.query("token"), None);
        let request = whole("GET /v1/status HTTP/1.1\r\n\r\n");
        assert!(!request.is_post && request.path == "/v1/status" && request.body.is_empty());
        for (query, want) in [("a=%4", None), ("a=%zz", None), ("a=%e4", Some(vec![0xe4])), ("a", None)] {
            assert_eq!(whole(&format!("GET /x?{query} HTTP/1.1\r\n\r\n")).query("a"), want, "{query}");
        }
    }

    #[test]
    fn what_no_conductor_sends_is_refused_and_bounded() {
        let post = |header: &str| format!("POST /v1/commands HTTP/1.1\r\n{header}\r\n\r\n");
        for (label, text, want) in [
            ("no HTTP", "SSH-2.0-x\r\n\r\n".to_string(), 400),
            ("TLS within TLS", "\u{16}\u{3}\u{1}\u{2}".to_string(), 400),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_string(), 400),
            ("another method", "DELETE /v1/commands HTTP/1.1\r\n\r\n".to_string(), 405),
            ("no length", post("Host: x"), 411),
            ("chunks", post("Transfer-Encoding: chunked\r\nContent-Length: 4"), 411),
            ("two lengths", post("Content-Length: 4\r\nContent-Length: 5"), 400),
            ("signed length", post("Content-Length: +4"), 400),
            ("negative length", post("Content-Length: -4"), 400),
            ("empty length", post("Content-Length:"), 400),
            ("vast length", post("Content-Length: 99999999999999999999999"), 400),
            ("long body", post("Content-Length: 16385"), 413),
            ("long header", post(&format!("X: {}", "x".repeat(MAX_HEAD))), 431),
            ("long path", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD)), 431),
            ("many headers", post(&"X: x\r\n".repeat(MAX_HEADERS + 1)), 431),
        ] {
            match read(text.as_bytes()) {
                Progress::Refused(status, _) => assert_eq!(status, want, "{label}"),
                other => panic!("{label}: {other:?}"),
            }
        }
        // The most that is kept while a request is not refused.
        let endless = vec![b'x'; MAX_HEAD];
        assert!(matches!(read(&endless), Progress::Refused(..)));
    }
}
