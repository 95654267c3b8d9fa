//! What a conductor may ask of the agent, as ironic-python-agent has it (its api/app.py): how it is, what it was told, and one
//! command, `rescue.finalize_rescue`.

use super::http::{Progress, Request, response};
use serde::Deserialize;
use serde_json::{Value, json};

/// The command that this is all about, and its name in the list of results.
const COMMAND: &str = "rescue.finalize_rescue";
/// Most results that are kept, the newest of them.
const MAX_RESULTS: usize = 16;
/// Most bytes of a command's name that are repeated.
const MAX_NAME: usize = 64;

/// What is said to be the version of the agent: Ironic wants one, and keeps it beside the node.
pub fn version() -> String {
    format!("lifeboat-{}", env!("CARGO_PKG_VERSION"))
}

/// What one conductor and this agent know of each other.
pub struct Session {
    token: String,
    /// Unix time.
    started: u64,
    results: Vec<Value>,
    /// The number of the next result.
    next: u64,
    /// The password is set: nothing else is waited for.
    pub is_finalized: bool,
}

#[derive(Deserialize)]
struct Command {
    name: String,
    params: serde_json::Map<String, Value>,
}

impl Session {
    pub fn new(token: String, started: u64) -> Session {
        Session { token, started, results: Vec::new(), next: 0, is_finalized: false }
    }

    /// The answer to what has come, and `None` while more has to. `set` takes the hash of a password, and says why not.
    pub fn answer(
        &mut self,
        progress: Progress,
        set: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Option<Vec<u8>> {
        let (status, body) = match progress {
            Progress::More => return None,
            Progress::Refused(status, why) => fault(status, why),
            Progress::Whole(request) => self.route(&request, set),
        };
        Some(response(status, &body.to_string()))
    }

    fn route(&mut self, request: &Request, set: &mut dyn FnMut(&str) -> Result<(), String>) -> (u16, Value) {
        // Without the version it is the first one, as in ironic-python-agent.
        let path = request.path.strip_prefix("/v1").unwrap_or(&request.path);
        if path == "/status" && !request.is_post {
            return (200, json!({ "started_at": self.started, "version": version() }));
        }
        let Some(rest) = path.strip_prefix("/commands") else { return fault(404, "there is no such page") };
        let token = request.query("agent_token").unwrap_or_default();
        if self.token.is_empty() || !is_equal(&token, self.token.as_bytes()) {
            // The word that a conductor looks for in such an answer has another meaning: an agent that knows no tokens.
            return fault(401, "Token invalid.");
        }
        match (request.is_post, rest.strip_prefix('/')) {
            (false, None) if rest.is_empty() => (200, json!({ "commands": self.results })),
            (false, Some(id)) => match self.results.iter().find(|result| result["id"] == id) {
                Some(result) => (200, result.clone()),
                None => fault(404, "there is no such command"),
            },
            (true, None) if rest.is_empty() => match serde_json::from_slice::<Command>(&request.body) {
                Ok(command) => self.run(&command, set),
                // Its words might repeat what it was given.
                Err(_) => fault(400, "the body is no command: it needs a name and params"),
            },
            _ => fault(404, "there is no such page"),
        }
    }

    /// Whatever becomes of it is told with status 200, since a conductor shows the words of a result, and for another status its own.
    fn run(&mut self, command: &Command, set: &mut dyn FnMut(&str) -> Result<(), String>) -> (u16, Value) {
        let result = if command.name == COMMAND {
            finalize(&command.params, set)
        } else {
            let name: String = command.name.chars().take(MAX_NAME).collect();
            Err(format!("{} is not known to Lifeboat: it is a rescue alone", name.escape_debug()))
        };
        self.is_finalized |= result.is_ok();
        let id = format!("{:08x}-0000-4000-8000-000000000000", self.next);
        self.next += 1;
        let error = result.as_ref().err().map(|why| {
            json!({ "type": "CommandExecutionError", "code": 500, "message": "Lifeboat refused", "details": why })
        });
        let name = command.name.rsplit('.').next().unwrap_or_default();
        let result = json!({
            "id": id,
            "command_name": name.chars().take(MAX_NAME).collect::<String>(),
            "command_status": if error.is_none() { "SUCCEEDED" } else { "FAILED" },
            "command_error": error,
            "command_result": null,
        });
        if self.results.len() == MAX_RESULTS {
            self.results.remove(0);
        }
        self.results.push(result.clone());
        (200, result)
    }
}

fn finalize(
    params: &serde_json::Map<String, Value>,
    set: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let Some(Value::String(password)) = params.get("rescue_password") else {
        return Err("there is no rescue_password".to_string());
    };
    if params.get("hashed") != Some(&Value::Bool(true)) {
        return Err("the password is not hashed: Lifeboat takes a hash alone".to_string());
    }
    set(password)
}

/// In the form of the errors that ironic-python-agent gives.
fn fault(status: u16, why: &str) -> (u16, Value) {
    (status, json!({ "faultcode": "Client", "faultstring": why }))
}

/// In a time that depends on the lengths only.
fn is_equal(given: &[u8], known: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(given, known).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::http;
    use super::*;

    const TOKEN: &str = "LLPWWCBvVvTo5GTPx7JqxBsO-OYNr0GEMHqc2mHPzFo";

    /// Status and body, and what was to be set.
    fn ask(session: &mut Session, line: &str, body: &str) -> (u16, Value, Vec<String>) {
        let text = format!("{line} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut told = Vec::new();
        let mut set = |hash: &str| {
            told.push(hash.to_string());
            if hash.starts_with('$') { Ok(()) } else { Err("is no hash".to_string()) }
        };
        let answer = session.answer(http::read(text.as_bytes()), &mut set).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap(), told)
    }

    fn session() -> Session {
        Session::new(TOKEN.to_string(), 1_800_000_000)
    }

    fn finalize(params: &str) -> String {
        format!("{{\"name\":\"rescue.finalize_rescue\",\"params\":{params}}}")
    }

    #[test]
    fn whoever_has_no_token_learns_nothing_and_changes_nothing() {
        let command = finalize("{\"rescue_password\":\"$5$a$b\",\"hashed\":true}");
        let almost = format!("{}x", &TOKEN[..TOKEN.len() - 1]);
        let longer = format!("{TOKEN}x");
        for (label, token) in [
            ("none", None),
            ("empty", Some("")),
            ("almost", Some(almost.as_str())),
            ("longer", Some(&longer)),
        ] {
            let query = token.map(|token| format!("?agent_token={token}")).unwrap_or_default();
            for line in [format!("POST /v1/commands/{query}"), format!("GET /v1/commands/{query}")] {
                let mut session = session();
                let (status, body, told) = ask(&mut session, &line, &command);
                assert_eq!((status, body["faultstring"].as_str()), (401, Some("Token invalid.")), "{label}");
                assert!(told.is_empty() && !session.is_finalized, "{label}");
            }
        }
        // Before Ironic has given one, the empty one is no token either.
        let mut session = Session::new(String::new(), 0);
        let (status, _, told) = ask(&mut session, "POST /v1/commands/?agent_token=", &command);
        assert!(status == 401 && told.is_empty());
    }

    #[test]
    fn the_hash_of_a_password_is_passed_on_and_told_to_nobody() {
        let mut session = session();
        let line = format!("POST /v1/commands/?wait=false&agent_token={TOKEN}");
        let (status, body, told) =
            ask(&mut session, &line, &finalize("{\"rescue_password\":\"$5$salt$hash\",\"hashed\":true}"));
        assert_eq!((status, body["command_status"].as_str()), (200, Some("SUCCEEDED")));
        assert_eq!(told, ["$5$salt$hash"]);
        assert!(session.is_finalized);
        let (status, list, _) = ask(&mut session, &format!("GET /v1/commands/?agent_token={TOKEN}"), "");
        assert_eq!((status, list["commands"][0]["command_name"].as_str()), (200, Some("finalize_rescue")));
        let id = body["id"].as_str().unwrap();
        let (status, one, _) = ask(&mut session, &format!("GET /v1/commands/{id}?agent_token={TOKEN}"), "");
        assert_eq!((status, &one), (200, &body));
        assert!(!list.to_string().contains("salt") && !one.to_string().contains("salt"));
    }

    #[test]
    fn what_is_not_taken_fails_with_words_that_ironic_shows_and_without_the_password() {
        for (label, body, want) in [
            ("clear", finalize("{\"rescue_password\":\"secret\"}"), "not hashed"),
            ("said to be clear", finalize("{\"rescue_password\":\"secret\",\"hashed\":false}"), "not hashed"),
            ("no yes", finalize("{\"rescue_password\":\"secret\",\"hashed\":\"true\"}"), "not hashed"),
            ("no hash", finalize("{\"rescue_password\":\"secret\",\"hashed\":true}"), "is no hash"),
            ("none", finalize("{\"hashed\":true}"), "no rescue_password"),
            ("no text", finalize("{\"rescue_password\":[\"secret\"],\"hashed\":true}"), "no rescue_password"),
            (
                "another",
                "{\"name\":\"deploy.get_deploy_steps\",\"params\":{}}".into(),
                "deploy.get_deploy_steps",
            ),
            ("steering", "{\"name\":\"\\u001b[2J\",\"params\":{}}".into(), "\\u{1b}[2J"),
            ("long", format!("{{\"name\":\"{}\",\"params\":{{}}}}", "x".repeat(9000)), "is not known"),
        ] {
            let mut session = session();
            let line = format!("POST /v1/commands?agent_token={TOKEN}");
            let (status, answer, _) = ask(&mut session, &line, &body);
            assert_eq!((status, answer["command_status"].as_str()), (200, Some("FAILED")), "{label}");
            let details = answer["command_error"]["details"].as_str().unwrap();
            assert!(details.contains(want) && details.len() < 200, "{label}: {details}");
            assert!(!answer.to_string().contains("secret"), "{label}");
            assert!(!session.is_finalized, "{label}");
        }
    }

    #[test]
    fn hostile_requests_are_refused_and_fill_nothing() {
        let mut session = session();
        let at = |path: &str| format!("POST {path}?agent_token={TOKEN}");
        let deep = "[".repeat(9000);
        for (label, line, body, want) in [
            ("no JSON", at("/v1/commands"), "{", 400),
            ("no object", at("/v1/commands"), "[]", 400),
            ("no params", at("/v1/commands"), "{\"name\":\"x\"}", 400),
            ("params are a list", at("/v1/commands"), "{\"name\":\"x\",\"params\":[]}", 400),
            ("deep", at("/v1/commands"), &deep, 400),
            ("a number as name", at("/v1/commands"), "{\"name\":1,\"params\":{}}", 400),
            ("elsewhere", at("/v1/other"), "", 404),
            ("beside", at("/v1/commandsx"), "", 404),
            ("to a result", at("/v1/commands/1"), "", 404),
            ("above", at("/v1/../v1/commands"), "", 404),
            ("no result", format!("GET /v1/commands/x?agent_token={TOKEN}"), "", 404),
            ("to the status", "POST /v1/status".to_string(), "", 404),
        ] {
            assert_eq!(ask(&mut session, &line, body).0, want, "{label}");
        }
        for _ in 0..100 {
            ask(&mut session, &at("/v1/commands"), "{\"name\":\"x\",\"params\":{}}");
        }
        assert_eq!(session.results.len(), MAX_RESULTS);
        let (status, answer, _) = ask(&mut session, "GET /v1/status", "");
        assert_eq!((status, answer["started_at"].as_u64()), (200, Some(1_800_000_000)));
    }
}
