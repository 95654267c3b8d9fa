//! Keys that a hypervisor hands in under systemd's credential names (systemd.exec(5), and SMBIOS OEM
//! strings in systemd-stub(7)): `io.systemd.credential:NAME=TEXT` or
//! `io.systemd.credential.binary:NAME=BASE64` among the OEM strings of SMBIOS, and QEMU's fw_cfg
//! entries below `opt/io.systemd.credentials/`. And those that lie beside an EFI program, as `NAME.cred` in
//! `lifeboat.efi.extra.d/`, which systemd's stub hands over as files below `/.extra`. Nothing of a credential is logged but that
//! it is there.
//!
//! Nobody signs what lies beside the program, so where Secure Boot vouches for the program it is left alone: whoever can
//! write to the medium would get in.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use host::Root;

/// The credentials that systemd reads keys of root from, the second since version 257.
const NAMES: [&str; 2] = ["ssh.authorized_keys.root", "ssh.ephemeral-authorized_keys-all"];
const FW_CFG: &str = "opt/io.systemd.credentials";
/// Where systemd's stub puts what lies beside the EFI program (systemd-stub(7)).
const BESIDE: &str = "/.extra/credentials";
/// `secure_boot` of the kernel's struct boot_params (Documentation/arch/x86/zero-page.rst), and its values for `unset`, as
/// without UEFI, and `disabled`. What is unknown or cannot be read may be `enabled`.
const BOOT_PARAMS: &str = "/sys/kernel/boot_params/data";
const SECURE_BOOT: usize = 0x1ec;
const IS_OPEN: [u8; 2] = [0, 2];
/// SMBIOS specification, 7.12 and 7.45.
const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;
const TEXT: &[u8] = b"io.systemd.credential:";
const BINARY: &[u8] = b"io.systemd.credential.binary:";

/// People cut the padding off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, PartialEq)]
pub struct Credential {
    /// `SMBIOS ssh.authorized_keys.root`
    pub source: String,
    /// In the form of authorized_keys; or what is wrong with it, without a byte of it.
    pub text: Result<String, &'static str>,
}

impl Credential {
    fn new(source: String, text: Result<Vec<u8>, &'static str>) -> Credential {
        let text = text.map(|bytes| host::text::text(&bytes));
        let text = text.and_then(|text| if text.trim().is_empty() { Err("is empty") } else { Ok(text) });
        Credential { source, text }
    }
}

/// SMBIOS first, what lies on a medium last.
pub fn read(root: &Root) -> Vec<Credential> {
    let fw_cfg = NAMES.iter().filter_map(|name| {
        let bytes = host::firmware::fw_cfg(root, &format!("{FW_CFG}/{name}"))?;
        Some(Credential::new(format!("fw_cfg {name}"), Ok(bytes)))
    });
    smbios(&host::firmware::smbios(root)).into_iter().chain(fw_cfg).chain(beside(root)).collect()
}

fn beside(root: &Root) -> Vec<Credential> {
    let parameters = root.read(BOOT_PARAMS).unwrap_or_default();
    if !parameters.get(SECURE_BOOT).is_some_and(|mode| IS_OPEN.contains(mode)) {
        return Vec::new();
    }
    let one = |name: &&str| {
        let bytes = root.read(format!("{BESIDE}/{name}.cred")).ok()?;
        Some(Credential::new(format!("{name}.cred beside the EFI program"), Ok(bytes)))
    };
    NAMES.iter().filter_map(one).collect()
}

pub fn smbios(table: &[u8]) -> Vec<Credential> {
    oem_strings(table)
        .into_iter()
        .filter_map(|string| {
            let (text, binary) = (string.strip_prefix(TEXT), string.strip_prefix(BINARY));
            let named = text.or(binary)?;
            let name = NAMES.iter().find(|name| named.starts_with(name.as_bytes()))?;
            let value = named[name.len()..].strip_prefix(b"=")?;
            let bytes = match binary {
                // base64(1) breaks its lines.
                Some(_) => BASE64
                    .decode(
                        value.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>(),
                    )
                    .map_err(|_| "is no base64"),
                None => Ok(value.to_vec()),
            };
            Some(Credential::new(format!("SMBIOS {name}"), bytes))
        })
        .collect()
}

/// The strings of every structure of type 11. A structure is its formatted part, whose length its
/// second byte tells, and strings, each ended by a NUL, the last by two (6.1.3).
fn oem_strings(mut table: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [kind, length, ..] = *table {
        let length = usize::from(length);
        // Shorter than its own header: the table is damaged from here on.
        if length < 4 || length > table.len() || kind == END_OF_TABLE {
            break;
        }
        let mut strings = &table[length..];
        // Without strings there are two NULs as well.
        if strings.starts_with(&[0]) {
            strings = &strings[1..];
        }
        while let Some(end) = strings.iter().position(|byte| *byte == 0) {
            let (string, rest) = (&strings[..end], &strings[end + 1..]);
            strings = rest;
            if string.is_empty() {
                break;
            }
            if kind == OEM_STRINGS {
                found.push(string);
            }
        }
        table = strings;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn structure(kind: u8, strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, 5, 0, 1, strings.len() as u8];
        for string in strings {
            bytes.extend_from_slice(string.as_bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    fn credential(name: &str, text: &str) -> Credential {
        Credential { source: format!("SMBIOS {name}"), text: Ok(text.to_string()) }
    }

    #[test]
    fn keys_among_the_oem_strings_are_found() {
        let binary =
            format!("io.systemd.credential.binary:{}={}", NAMES[1], STANDARD.encode("key two\nkey three\n"));
        let table = [
            structure(0, &["SeaBIOS", "io.systemd.credential:ssh.authorized_keys.root=no"]),
            structure(1, &[]),
            structure(11, &["vendor", "io.systemd.credential:ssh.authorized_keys.root=key one", &binary]),
            structure(11, &["io.systemd.credential:passwd.hashed-password.root=secret"]),
            structure(127, &[]),
        ]
        .concat();
        let want = [credential(NAMES[0], "key one"), credential(NAMES[1], "key two\nkey three\n")];
        assert_eq!(smbios(&table), want);
        // However it is cut, it is read as far as it goes.
        for length in 0..table.len() {
            assert!(smbios(&table[..length]).len() <= 2);
        }
    }

    #[test]
    fn what_lies_beside_the_program_counts_unless_secure_boot_vouches_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = directory.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let root = Root::at(directory.path()).unwrap();
        assert_eq!(read(&root), []);
        put(".extra/credentials/ssh.authorized_keys.root.cred", b"key one\n");
        put(".extra/credentials/passwd.hashed-password.root.cred", b"secret");
        assert_eq!(read(&root), [], "nobody can say whether Secure Boot is on");
        put(BOOT_PARAMS, &[0; SECURE_BOOT]);
        assert_eq!(read(&root), [], "cut");
        let mut parameters = vec![0; 4096];
        put(BOOT_PARAMS, &parameters);
        let found = read(&root);
        assert_eq!((found.len(), found[0].text.as_deref()), (1, Ok("key one\n")));
        for (mode, count) in [(0, 1), (1, 0), (2, 1), (3, 0), (255, 0)] {
            parameters[SECURE_BOOT] = mode;
            put(BOOT_PARAMS, &parameters);
            assert_eq!(read(&root).len(), count, "{mode}");
        }
    }

    #[test]
    fn damage_is_the_end_of_the_table() {
        let good = structure(11, &["io.systemd.credential:ssh.authorized_keys.root=key"]);
        assert_eq!(smbios(&[vec![11, 3, 0, 0], good.clone()].concat()), []);
        assert_eq!(smbios(&[good.clone(), vec![11, 255, 0]].concat()).len(), 1);
    }

    #[test]
    fn a_credential_that_is_meant_for_us_is_taken_as_far_as_it_can_be_and_else_named() {
        let of = |string: &[u8]| {
            let table = [&[11, 5, 0, 1, 1][..], string, &[0, 0]].concat();
            smbios(&table).pop().map(|credential| credential.text)
        };
        let binary = |value: &str| {
            of(format!("{}={value}", "io.systemd.credential.binary:ssh.authorized_keys.root").as_bytes())
        };
        assert_eq!(binary("a2V5IG9uZQo="), Some(Ok("key one\n".to_string())));
        assert_eq!(
            binary("a2V5\n IG9uZQo\n"),
            Some(Ok("key one\n".to_string())),
            "broken lines, and no padding"
        );
        assert_eq!(binary("%%%"), Some(Err("is no base64")));
        assert_eq!(binary(""), Some(Err("is empty")));
        let text = |value: &[u8]| of(&[b"io.systemd.credential:ssh.authorized_keys.root", value].concat());
        assert_eq!(text(b"= "), Some(Err("is empty")));
        assert!(matches!(text(b"=key J\xfcrgen"), Some(Ok(text)) if text.starts_with("key J")));
        assert_eq!(text(b".other=key"), None);
        assert_eq!(text(b""), None);
    }
}
