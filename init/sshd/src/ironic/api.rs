//! What the agent asks of Ironic's API, and what it makes of the answers: the look-up of this node by its MAC addresses, and heartbeats
//! (Ironic's api/controllers/v1/ramdisk.py; ironic-python-agent's ironic_api_client.py).

use serde::Deserialize;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use web::{Exchange, Names};

/// The first with all that is sent here (`agent_verify_ca`), of Wallaby, 2021.
const VERSION: &str = "1.68";
const HEADERS: [(&str, &str); 3] = [
    ("X-OpenStack-Ironic-API-Version", VERSION),
    ("Content-Type", "application/json"),
    ("Accept", "application/json"),
];
/// What stands in the place of a token that was given out before.
const GIVEN: &str = "******";
/// As ironic-python-agent has it; Ironic makes 43 characters.
const TOKEN: std::ops::RangeInclusive<usize> = 32..=256;
/// Seconds between heartbeats, whatever the answer names.
const INTERVAL: std::ops::RangeInclusive<u64> = 1..=3600;

/// The API's URLs, the one that answered last in front, and how they are reached.
pub struct Api {
    pub urls: Vec<String>,
    pub names: Names,
    pub authorities: Vec<u8>,
}

/// This machine, as Ironic knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    pub uuid: String,
    pub token: String,
    /// The longest time between two heartbeats.
    pub interval: Duration,
}

impl Api {
    /// Asks each until one answers at all. Errors name the last URL.
    fn ask(&mut self, path: &str, body: Option<String>) -> Result<(u16, Vec<u8>), String> {
        let mut failure = String::new();
        for index in 0..self.urls.len() {
            let exchange = Exchange {
                url: format!("{}{path}", self.urls[index]),
                headers: HEADERS.to_vec(),
                body: body.clone(),
                names: self.names.clone(),
                authorities: self.authorities.clone(),
            };
            match web::exchange(&exchange) {
                Ok(answer) => {
                    self.urls.rotate_left(index);
                    return Ok(answer);
                }
                Err(why) => failure = format!("{}: {why}", contract::url::shown(&self.urls[index])),
            }
        }
        Err(failure)
    }

    fn said<T>(&self, result: Result<T, String>) -> Result<T, String> {
        result.map_err(|why| format!("{}: {why}", contract::url::shown(&self.urls[0])))
    }

    /// `known` is a token that Ironic handed over otherwise.
    pub fn look_up(&mut self, addresses: &[String], known: Option<&str>) -> Result<Node, String> {
        let (status, text) = self.ask(&format!("/v1/lookup?addresses={}", addresses.join(",")), None)?;
        self.said(node(status, &text, known))
    }

    /// The address of this machine that Ironic can reach.
    pub fn own_address(&self) -> Result<IpAddr, String> {
        self.said(web::own_address(&self.urls[0], &self.names))
    }

    pub fn heartbeat(&mut self, node: &Node, at: SocketAddr, certificate: &str) -> Result<(), String> {
        let body = json!({
            "callback_url": format!("https://{at}"),
            "agent_version": super::command::version(),
            "agent_token": node.token,
            "agent_verify_ca": certificate,
        });
        let (status, _) = self.ask(&format!("/v1/heartbeat/{}", node.uuid), Some(body.to_string()))?;
        self.said(match status {
            202 => Ok(()),
            _ => Err(refusal(status)),
        })
    }
}

#[derive(Deserialize)]
struct Found {
    node: FoundNode,
    config: Config,
}

#[derive(Deserialize)]
struct FoundNode {
    uuid: String,
}

#[derive(Deserialize)]
struct Config {
    heartbeat_timeout: u64,
    agent_token: Option<String>,
}

/// Errors repeat nothing of the answer.
fn node(status: u16, text: &[u8], known: Option<&str>) -> Result<Node, String> {
    if status != 200 {
        return Err(refusal(status));
    }
    let found: Found =
        serde_json::from_slice(text).map_err(|_| "what answers is not the API of Ironic".to_string())?;
    let uuid = super::uuid(&found.node.uuid).ok_or("the node that it names has no UUID")?;
    let token = match (found.config.agent_token.as_deref(), known) {
        (Some(GIVEN) | None, Some(known)) => known,
        (Some(GIVEN), None) => return Err("it has given the token of this node to somebody else".to_string()),
        (Some(token), _) => token,
        (None, None) => return Err("it gives no token".to_string()),
    };
    let is_plain = TOKEN.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let seconds = found.config.heartbeat_timeout.clamp(*INTERVAL.start(), *INTERVAL.end());
    is_plain
        .then(|| Node { uuid, token: token.to_string(), interval: Duration::from_secs(seconds) })
        .ok_or_else(|| "the token that it gives is none".to_string())
}

#[cfg(feature = "fuzz")]
pub fn hostile(text: &[u8]) {
    for known in [None, Some("t")] {
        let _ = node(200, text, known); // any answer is one
    }
}

fn refusal(status: u16) -> String {
    match status {
        404 => "it knows no node with these MAC addresses that waits for a ramdisk (404)".to_string(),
        406 => format!("it is older than version {VERSION} of its API (406)"),
        409 => "the node is locked (409)".to_string(),
        status => format!("it answered with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";

    fn answer(uuid: &str, config: &str) -> Vec<u8> {
        format!("{{\"node\":{{\"uuid\":\"{uuid}\",\"links\":[]}},\"config\":{config}}}").into_bytes()
    }

    #[test]
    fn a_node_is_taken_with_its_token_and_not_without_one() {
        let token = "t".repeat(43);
        let given = format!("{{\"heartbeat_timeout\":300,\"agent_token\":\"{token}\",\"metrics\":{{}}}}");
        let found = node(200, &answer(UUID, &given), None).unwrap();
        let want = Node { uuid: UUID.into(), token: token.clone(), interval: Duration::from_secs(300) };
        assert_eq!(found, want);
        // Virtual media hand the token over, and the look-up hides it.
        let hidden = "{\"heartbeat_timeout\":300,\"agent_token\":\"******\"}";
        assert_eq!(node(200, &answer(UUID, hidden), Some(&token)).unwrap(), want);
        let short = given.replace(&token, "short");
        let steering = given.replace(&token, &format!("{token}\\n"));
        let vast = given.replace("300", "18446744073709551615");
        assert_eq!(node(200, &answer(UUID, &vast), None).unwrap().interval, Duration::from_secs(3600));
        for (label, status, text, want) in [
            ("somebody else's", 200, answer(UUID, hidden), "somebody else"),
            ("none", 200, answer(UUID, "{\"heartbeat_timeout\":300}"), "no token"),
            ("short", 200, answer(UUID, &short), "is none"),
            ("steering", 200, answer(UUID, &steering), "is none"),
            ("another path", 200, answer("../../v1/nodes", &given), "no UUID"),
            ("negative", 200, answer(UUID, &given.replace("300", "-1")), "is not the API"),
            ("no JSON", 200, b"<html>".to_vec(), "is not the API"),
            ("deep", 200, b"[".repeat(100_000), "is not the API"),
            ("not here", 404, Vec::new(), "no node"),
            ("old", 406, Vec::new(), "older than"),
            ("locked", 409, Vec::new(), "locked"),
            ("broken", 503, Vec::new(), "503"),
            ("elsewhere", 302, Vec::new(), "302"),
        ] {
            let error = node(status, &text, None).unwrap_err();
            assert!(error.contains(want), "{label}: {error}");
        }
    }
}
