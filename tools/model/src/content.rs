//! What a signature is to a person: `LUKS 2 "vault", locked` instead of libblkid's type names.

use ondisk::Signature;
use ondisk::volume::Volume;

/// In a few words, with the label. Hostile text, as the label is.
pub fn words(signature: &Signature) -> String {
    let version = signature.version.as_deref().unwrap_or_default();
    let label = signature.label.as_deref().filter(|label| !label.is_empty());
    let named = |kind: &str| label.map_or(kind.to_string(), |label| format!("{kind} \"{label}\""));
    match signature.format.as_str() {
        "crypto_LUKS" if is_header(signature) => {
            named(&format!("LUKS {version}")) + ", header kept apart from its data"
        }
        "crypto_LUKS" => named(&format!("LUKS {version}")) + ", locked",
        "BitLocker" => named("BitLocker") + ", locked",
        "DM_verity_hash" => "hashes of a verity device".to_string(),
        "DM_integrity" => "data with integrity tags".to_string(),
        "LVM2_member" => "LVM physical volume".to_string(),
        "LVM1_member" => "physical volume of LVM 1, which Linux no longer has".to_string(),
        "linux_raid_member" => named("md member"),
        "isw_raid_member" => "member of Intel firmware RAID".to_string(),
        "ddf_raid_member" => "member of DDF firmware RAID".to_string(),
        "lsi_mega_raid_member" => "member of LSI firmware RAID".to_string(),
        "via_raid_member" => "member of VIA firmware RAID".to_string(),
        "silicon_medley_raid_member" => "member of Silicon Image firmware RAID".to_string(),
        "nvidia_raid_member" => "member of NVIDIA firmware RAID".to_string(),
        "promise_fasttrack_raid_member" => "member of Promise firmware RAID".to_string(),
        "hpt37x_raid_member" | "hpt45x_raid_member" => "member of HighPoint firmware RAID".to_string(),
        "adaptec_raid_member" => "member of Adaptec firmware RAID".to_string(),
        "jmicron_raid_member" => "member of JMicron firmware RAID".to_string(),
        "zfs_member" => {
            label.map_or("device of a ZFS pool".to_string(), |pool| format!("device of ZFS pool \"{pool}\""))
        }
        "VMFS_volume_member" => "device of a VMFS volume".to_string(),
        "stratis" => "device of a Stratis pool".to_string(),
        "ceph_bluestore" => "Ceph's BlueStore".to_string(),
        "drbd" => "DRBD device".to_string(),
        "drbdmanage_control_volume" => "control volume of drbdmanage".to_string(),
        "drbdproxy_datalog" => "log of a DRBD proxy".to_string(),
        "cs_fvault2" => "FileVault 2, locked".to_string(),
        "oracleasm" => named("disk of Oracle's ASM"),
        "nss" => "pool of NetWare's NSS".to_string(),
        "mpool" => named("drive of an mpool"),
        "ubi" => "image of a UBI flash chip".to_string(),
        "bcache" => named("bcache"),
        "jbd" => named("journal of an ext4 elsewhere"),
        "xfs_external_log" => "log of an XFS elsewhere".to_string(),
        "swsuspend" => named("swap with a suspended system"),
        other => named(other),
    }
}

/// Of a lock whose data is elsewhere.
pub fn is_header(signature: &Signature) -> bool {
    matches!(&signature.volume, Some(Volume::Luks(luks)) if luks.is_apart)
}

/// Whether Linux as it is here can mount it: its neighbours in blkid's class are pools and foreign systems.
pub fn is_mountable(signature: &Signature) -> bool {
    const OTHERS: &[&str] = &[
        "VMFS",
        "ReFS",
        "apfs",
        "befs",
        "bfs",
        "cramfs",
        "drbdproxy_datalog",
        "exfs",
        "ext4dev",
        "gfs",
        "gfs2",
        "hpfs",
        "mpool",
        "nss",
        "ocfs",
        "ocfs2",
        "oracleasm",
        "reiser4",
        "romfs",
        "scoutfs_data",
        "scoutfs_meta",
        "squashfs3",
        "sysv",
        "ubifs",
        "vxfs",
        "xenix",
        "zfs_member",
    ];
    !OTHERS.contains(&signature.format.as_str())
}

/// Whether there is a program that looks for damage in it.
pub fn has_checker(signature: &Signature) -> bool {
    const CHECKED: &[&str] =
        &["btrfs", "exfat", "ext2", "ext3", "ext4", "ext4dev", "f2fs", "jfs", "ntfs", "vfat", "xfs"];
    CHECKED.contains(&signature.format.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::Usage;

    #[test]
    fn a_person_reads_words() {
        let signature = |format: &str, version: &str, label: &str| Signature {
            version: Some(version.to_string()),
            label: Some(label.to_string()),
            ..Signature::new(format, Usage::Other, 0)
        };
        let cases = [
            (signature("crypto_LUKS", "2", "vault"), "LUKS 2 \"vault\", locked"),
            (signature("zfs_member", "5000", "tank"), "device of ZFS pool \"tank\""),
            (signature("LVM2_member", "LVM2 001", ""), "LVM physical volume"),
            (signature("ext4", "1.0", "root"), "ext4 \"root\""),
            (signature("swap", "1", ""), "swap"),
        ];
        for (signature, want) in cases {
            assert_eq!(words(&signature), want);
        }
    }
}
