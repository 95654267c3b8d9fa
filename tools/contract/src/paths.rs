//! Where the processes meet. Everything of ours that changes at run time is below `/run/lifeboat`.

/// Our own binaries, outside `/usr`, so that no layer shadows them and no restart goes through one.
pub const BIN: &str = "/lifeboat/bin";
/// Links there to the one binary that is every program of ours but PID 1, which goes by the link's name. Sorted.
pub const PROGRAMS: &[&str] = &["console", "devd", "layers", "netd", "rescue", "sshd"];
/// The layers of the image, as the kernel unpacked them from the initramfs.
pub const LAYERS: &str = "/layers";
/// Certificates of the platform's roots. Inside the nucleus.
pub const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A tmpfs of its own, for those that came after the boot.
pub const FETCHED: &str = "/layers/fetched";
/// Held (flock) by whoever mounts a layer.
pub const LAYERS_LOCK: &str = "/run/lifeboat/layers.lock";
/// Where they, the nucleus's own /usr and the writable upper part are mounted.
pub const STACK: &str = "/run/lifeboat/layers";
/// See [`crate::layers`]. Inside the nucleus.
pub const LAYER_LIST: &str = "/lifeboat/layers.list";
/// Which layer has which file of firmware, lines of `LAYER FILE`: what the nucleus has not itself. Inside the nucleus.
pub const LAYER_FIRMWARE: &str = "/lifeboat/layers.firmware";
/// Version of the image, one line. Inside the nucleus.
pub const VERSION: &str = "/lifeboat/version";
/// What the image is made of, as one SHA-256 in hex: of the kernel, the layers and the nucleus but for this file and the next.
pub const IMAGE: &str = "/lifeboat/image";
/// What it was built from, for a person: version, locks, compiler, libc.
pub const PROVENANCE: &str = "/lifeboat/provenance";
/// When the image's commit was made, seconds since 1970.
pub const MADE: &str = "/lifeboat/made";
/// The kernel's: how far it is locked down. Where it is built with that, and init could mount securityfs.
pub const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Boot parameters of an appended cpio, one a line, in the words of the command line.
pub const PARAMS_FILE: &str = "/etc/lifeboat/params";
/// Parameters and keys that the system before handed on (lifeboat-kexec.sh): places that no archive of anybody else's
/// holds, since the kernel keeps of a file what came last.
pub const HANDED_PARAMS: &str = "/etc/lifeboat/handed/params";
pub const HANDED_KEYS: &str = "/etc/lifeboat/handed/authorized_keys";
/// By what init tells a console's service that nobody named its line.
pub const FOUND_BY_PEER: &str = "found-by-peer";
/// Original programs behind our classic names (fdisk, mount, ...), from the userland layer.
pub const CLASSIC: &str = "/usr/libexec/classic";

pub const RUN: &str = "/run/lifeboat";
/// A bounded tmpfs, with the logs, the lock, the ledger and the consents: a full root stops no verb.
pub const LOG: &str = "/run/lifeboat/log";
/// One JSON file per service, replaced by rename: see [`crate::state`].
pub const STATE: &str = "/run/lifeboat/state";
/// The serial lines that the firmware has its console on, `ttyS1 115200` each, as soon as it was asked: text, since PID 1
/// reads it too.
pub const NAMED_LINES: &str = "/run/lifeboat/state/lines";
/// One file per consent, named by diskseq and extent: see [`crate::guard`].
pub const CONSENT: &str = "/run/lifeboat/consent";
/// Held (flock) by every changing verb.
pub const LOCK: &str = "/run/lifeboat/lock";
/// Held (flock) by whoever looks into the installed systems without a person.
pub const INSTALLED_LOCK: &str = "/run/lifeboat/installed.lock";
/// Not empty as soon as a person works with devices while somebody looks: what was started then stays. Held (flock) meanwhile.
pub const INSTALLED_CLAIM: &str = "/run/lifeboat/installed.claim";
/// JSON lines of [`crate::ledger::Record`].
pub const LEDGER: &str = "/run/lifeboat/ledger";
/// One file per disk that missed a deadline, named by diskseq: `{pid} {path}\n`.
pub const HUNG: &str = "/run/lifeboat/hung";
/// A tmpfs of its own with a total size: the stores of overlays, one sparse file each.
pub const OVERLAY: &str = "/run/lifeboat/overlay";
/// A tmpfs of its own with a total size, for root alone: what stood on devices before a command wrote to them.
pub const UNDO: &str = "/run/lifeboat/undo";
/// Of a captured machine alone, where nobody can be asked: room of what was mounted, JSON by mount point.
pub const SPACE: &str = "/run/lifeboat/space.json";
/// The host key of this boot, mode 0600, kept over restarts of the listener.
pub const HOST_KEY: &str = "/run/lifeboat/sshd/host_ed25519";
/// The one-time password, mode 0600, for the consoles alone; absent when a key was given.
pub const PASSWORD: &str = "/run/lifeboat/sshd/password";

/// Where the root of an installed system is on a btrfs of which the whole was mounted: its default subvolume; Ubuntu's and
/// openSUSE's, Debian's, Fedora's.
pub const ROOT_SUBVOLUMES: &[&str] = &["", "@", "@rootfs", "root"];

/// `/run/lifeboat/state/NAME.json`
pub fn state(service: &str) -> String {
    format!("{STATE}/{service}.json")
}

/// `/run/lifeboat/NAME.sock`: SEQPACKET, root only, one request, one reply.
pub fn socket(service: &str) -> String {
    format!("{RUN}/{service}.sock")
}

/// `/run/lifeboat/log/NAME`
pub fn log(service: &str) -> String {
    format!("{LOG}/{service}")
}
