//! OpenSSH's own regression tests against our server. They come from Debian's package of them (`make peers` fetches it),
//! are copied for each test, and start what they believe to be `sshd`: `stand_in` reads the configuration that they
//! wrote and starts ours with the same keys on the same port. The client is Debian 13's.
//!
//! `make interop` runs them, as root, each in a network of its own. TESTS says what is run and how it was made to reach
//! our server; LEFT_OUT says what is not, and why. A test of the suite that neither names fails the run.

mod stand_in;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use table::{Edit, LEFT_OUT, TESTS, Test};

/// More than any takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// Most of them wait for their own `sleep`.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("stand-in", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return stand_in::main(rest);
    }
    // What `cargo test` asks of every test.
    if arguments.iter().any(|word| word == "--list") || std::env::var_os("INTEROP").is_none() {
        println!("OpenSSH's regression tests are run by `make interop`");
        return ExitCode::SUCCESS;
    }
    let Some(tree) = openssh() else {
        eprintln!("OpenSSH's regression tests are not there: `make peers` fetches them");
        return ExitCode::FAILURE;
    };
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let suite = Suite { tree, work: tempfile::tempdir().expect("a directory") };
    suite.prepare();
    let strangers = suite.strangers();
    let tests: Vec<&Test> =
        TESTS.iter().filter(|test| wanted.is_empty() || wanted.contains(&test.name)).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    match suite.run(test) {
                        Ok(()) => println!("ok      {:<20} {:>4} s", test.name, started.elapsed().as_secs()),
                        Err(said) => {
                            println!("FAILED  {}\n{said}", test.name);
                            failed.lock().expect("nobody panics holding it").push(test.name);
                        }
                    }
                }
            });
        }
    });
    for (names, why) in LEFT_OUT.iter().filter(|_| wanted.is_empty()) {
        println!("not run {}: {why}", names.replace(' ', ", "));
    }
    for name in &strangers {
        println!("FAILED  {name}: neither run nor left out");
    }
    let failed = failed.into_inner().expect("all have ended").len() + strangers.len();
    let left: usize = LEFT_OUT.iter().map(|(names, _)| names.split(' ').count()).sum();
    println!(
        "OpenSSH's regression tests: {} passed, {failed} failed, {left} not run",
        tests.len() + strangers.len() - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tree that OpenSSH of Debian 13 and its tests are in.
fn openssh() -> Option<PathBuf> {
    let bin = std::env::var_os("PEERS").map(PathBuf::from)?;
    let tree = fs::canonicalize(bin).ok()?.parent()?.to_path_buf();
    tree.join("usr/lib/openssh/regress/test-exec.sh").exists().then_some(tree)
}

struct Suite {
    tree: PathBuf,
    work: tempfile::TempDir,
}

impl Suite {
    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.tree.join("wrappers").join(name)
    }

    /// What all tests share: the programs under the names that the suite knows.
    fn prepare(&self) {
        let own = std::env::current_exe().expect("the tester's path");
        script(&self.path("sshd"), &format!("exec {} stand-in \"$@\"", own.display()));
        // What a client may ask for is what the server has: the tests go through the list of `ssh -Q`.
        let ssh = self.program("ssh");
        let offered = table::OFFERED.join("\\|");
        script(
            &self.path("ssh"),
            &format!(
                "case \" $* \" in *' -Q kex ' | *' -Q cipher ' | *' -Q mac ') \
                 {0} \"$@\" < /dev/null | grep -x '{offered}'; exit;; \
                 *' -Q key-plain ') [ -z \"$KEYS\" ] || {{ printf '%s\\n' $KEYS; exit; }};; esac\nexec {0} \"$@\"",
                ssh.display()
            ),
        );
        // The suite copies the client as its test data: behind the script, which never gets there, is noise.
        let mut file = fs::OpenOptions::new().append(true).open(self.path("ssh")).expect("the client");
        std::io::Write::write_all(&mut file, &noise(256 << 10)).expect("noise");
        // `sftp -D` and `scp -D` start the server themselves: the way to it leads through ours.
        script(
            &self.path("sftp-server"),
            &format!("exec {} -q -F \"${{OBJ:?}}/ssh_proxy\" -s somehost sftp", ssh.display()),
        );
    }

    /// Tests of the suite that no table names.
    fn strangers(&self) -> Vec<String> {
        let makefile =
            fs::read_to_string(self.tree.join("usr/lib/openssh/regress/Makefile")).expect("the suite");
        let mut listed = BTreeSet::new();
        let mut inside = false;
        for line in makefile.lines() {
            let starts = ["LTESTS=", "INTEROP_TESTS=", "INTEROP_TESTS+=", "EXTRA_TESTS="]
                .iter()
                .find_map(|name| line.strip_prefix(name));
            if let Some(words) = starts.or(inside.then_some(line)) {
                listed.extend(words.trim_end_matches('\\').split_whitespace().map(String::from));
                inside = line.ends_with('\\');
            }
        }
        assert!(listed.len() > 50, "the suite's list is not where it was: {listed:?}");
        for test in TESTS {
            listed.remove(test.name);
        }
        for name in LEFT_OUT.iter().flat_map(|(names, _)| names.split(' ')) {
            listed.remove(name);
        }
        listed.into_iter().collect()
    }

    /// One test in a copy of the suite of its own.
    fn run(&self, test: &Test) -> Result<(), String> {
        let directory = self.path(test.name);
        copy(&self.tree.join("usr/lib/openssh/regress"), &directory, &self.tree);
        for name in ["test-exec.sh", &format!("{}.sh", test.name)] {
            let path = directory.join(name);
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            // A variable that our server lets through.
            let mut text = text.replace("_XXX_TEST", "LC_XXX_TEST");
            for edit in if name == "test-exec.sh" { &[] } else { test.edits } {
                text =
                    edit.apply(&text).ok_or_else(|| format!("{name} has no longer what {edit:?} changes"))?;
            }
            fs::write(&path, text).map_err(|error| error.to_string())?;
        }
        // scp's way to the other side, which would start it here.
        let wrapper = directory.join("scp-ssh-wrapper.sh");
        let text = fs::read_to_string(&wrapper).map_err(|error| error.to_string())?;
        let through = Edit::Replace(
            "set -- $arg\n\tshift\n\texec $SCP \"$@\"",
            "exec $REAL_SSH -q -F $OBJ/ssh_proxy somehost \"$arg\"",
        );
        fs::write(&wrapper, through.apply(&text).ok_or("scp-ssh-wrapper.sh has changed")?)
            .map_err(|error| error.to_string())?;
        let log = fs::File::create(directory.join("said")).map_err(|error| error.to_string())?;
        // The loopback of its own is up, and nothing else is there; the shells that the server starts read nothing of this host's
        // root, whose files may wait for something.
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--mount",
            "--",
            "sh",
            "-c",
            "for file in ~root/.bashrc ~root/.bash_profile ~root/.profile ~root/.zshenv ~root/.zshrc; do \
             [ ! -e $file ] || mount --bind /dev/null $file; done\n\
             ip link set lo up && exec sh ./test-exec.sh \"$PWD\" \"$PWD/$0.sh\"",
        ]);
        command.arg(test.name).current_dir(&directory).env_clear();
        for name in ["PATH", "HOME"] {
            command.env(name, std::env::var_os(name).unwrap_or_default());
        }
        let program = |name: &str| self.program(name);
        command
            .envs([
                ("LC_ALL", "C.UTF-8"),
                ("TEST_SHELL", "/bin/sh"),
                ("TEST_SSH_UNSAFE_PERMISSIONS", "1"),
                ("USER", "root"),
            ])
            .envs([("LOGNAME", "root"), ("TEST_SSH_QUIET", "no"), ("TEST_SSH_TRACE", "no")])
            .env("OBJ", &directory)
            .env("BUILDDIR", &directory)
            .env("TEST_SSH_SSH", self.path("ssh"))
            .env("TEST_SSH_SSHD", self.path("sshd"))
            .env("TEST_SSH_SFTPSERVER", self.path("sftp-server"))
            .env("TEST_SSH_SFTP", program("sftp"))
            .env("TEST_SSH_SCP", program("scp"))
            .env("TEST_SSH_SSHAGENT", program("ssh-agent"))
            .env("TEST_SSH_SSHADD", program("ssh-add"))
            .env("TEST_SSH_SSHKEYGEN", program("ssh-keygen"))
            .env("TEST_SSH_SSHKEYSCAN", program("ssh-keyscan"))
            .env("TEST_SSH_SSHD_SESSION", "/nonexistent")
            .env("TEST_SSH_SSHD_AUTH", "/nonexistent")
            .env("REAL_SSH", self.path("ssh"))
            .env("SSHD_UNDER_TEST", env!("CARGO_BIN_EXE_sshd"))
            .env("SFTP_SERVER", program("sftp-server"))
            .env("SFTP_SERVER_OF_SUITE", self.path("sftp-server"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().map_err(|error| error.to_string())?)
            .stdout(log);
        for (name, value) in test.environment {
            command.env(name, value);
        }
        let mut child = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let status = wait(&mut child);
        stand_in::end(&directory);
        let said = fs::read_to_string(directory.join("said")).unwrap_or_default();
        // A test that expects to be refused must not be pleased with a stand-in that refused its words.
        let refused = stand_in::refused(&directory);
        let passed = status.is_some_and(|status| status.success())
            && refused.is_empty()
            && !["SKIPPED:", "skipped because"].iter().any(|word| said.contains(word));
        if passed {
            // Room: each copy has the client's program several times over.
            let _ = fs::remove_dir_all(&directory);
            return Ok(());
        }
        if let Some(kept) = std::env::var_os("KEEP") {
            let _ = Command::new("cp").arg("-a").arg(&directory).arg(kept).status();
        }
        let tail = |text: &str, most: usize| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(most)..].join("\n")
        };
        let server = stand_in::logs(&directory);
        Err(format!("{}\n{refused}--- the server\n{}", tail(&said, 40), tail(&server, 20)))
    }
}

/// `None` where it did not end in time and was killed.
fn wait(child: &mut std::process::Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Bytes that do not compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Files alone. A program is of Debian 13, and is started by the loader there.
fn copy(from: &Path, to: &Path, tree: &Path) {
    fs::create_dir_all(to).expect("a directory");
    let loader = tree.join("usr/lib64/ld-linux-x86-64.so.2");
    for entry in fs::read_dir(from).expect("the suite").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            continue;
        }
        if fs::read(&path).expect("a file of the suite").starts_with(b"\x7fELF") {
            script(
                &target,
                &format!(
                    "exec {} --library-path {}/usr/lib/x86_64-linux-gnu {} \"$@\"",
                    loader.display(),
                    tree.display(),
                    path.display()
                ),
            );
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
    // Where the tests look for what a build would have left.
    let _ = symlink(".", to.join("regress"));
}
