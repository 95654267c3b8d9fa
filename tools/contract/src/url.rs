//! URLs that a person or a boot parameter names, as far as they are told apart and shown.

/// Whether it is one that can be fetched, and no key or path.
pub fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// A URL for people: without a name and password, and not for ever long.
pub fn shown(url: &str) -> String {
    // What follows the question mark may be somebody's token, and there may be no path before it (RFC 3986, section 3.2).
    let url = url.split(['?', '#']).next().unwrap_or("");
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // No port, but perhaps a password with such a mark in it, whose name stands here as the host.
    let host = match host.split_once(':') {
        Some((name, port)) if !host.starts_with('[') && !port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    format!("{scheme}://{host}{path}").chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_is_nobody_s_business() {
        for (url, want) in [
            ("https://github.com/me.keys", "https://github.com/me.keys"),
            ("https://me:secret@example.com/k?token=secret", "https://example.com/k"),
            ("http://example.com", "http://example.com"),
            ("https://example.com?token=secret", "https://example.com"),
            ("https://example.com#secret", "https://example.com"),
            ("https://example.com?token=secret/x", "https://example.com"),
            ("https://me:secret@example.com?user=a@b", "https://example.com"),
            ("https://me:se?cret@example.com/k", "https://me"),
            ("https://[2001:db8::1]:8443?x", "https://[2001:db8::1]:8443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            ("https://a@b/c@d\u{1b}[2J", "https://b/c@d[2J"),
        ] {
            assert_eq!(shown(url), want);
        }
        assert!(is_url("https://x") && !is_url("ssh-ed25519 https://x"));
        assert!(is_url("http://x") && !is_url("tftp://x") && !is_url("/x"));
    }
}
