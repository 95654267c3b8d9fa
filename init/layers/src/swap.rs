//! Swap in packed memory (zram): what nobody uses (the stores of overlays, files in /tmp, idle programs) takes a third of
//! the room. It is memory and no disk, so what is secret stays as it was.

use host::Root;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const DEVICE: &str = "/dev/zram0";
const CONTROL: &str = "/sys/block/zram0";
const PAGE: u64 = 4096;

/// Half of the memory, as others do. Once in a boot.
pub fn start(root: &Root) -> io::Result<()> {
    if host::proc::swaps(root).iter().any(|swap| swap.path == DEVICE) {
        return Ok(());
    }
    host::modules::load_all(root, &["zram"])?;
    if let Err(error) = root.write(format!("{CONTROL}/comp_algorithm"), "zstd") {
        host::log!("zram: zstd: {error}: it packs as the kernel chooses");
    }
    let size = (host::proc::total_memory(root) / 2).next_multiple_of(PAGE);
    root.write(format!("{CONTROL}/disksize"), &size.to_string())?;
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    device.write_all_at(&header(size), 0)?;
    drop(device);
    host::sys::swap::on(Path::new(DEVICE))
}

/// `union swap_header` of the kernel (linux/swap.h), version 1: what mkswap(8) writes.
fn header(size: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    let last = u32::try_from(size / PAGE - 1).unwrap_or(u32::MAX);
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[PAGE as usize - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_mkswap() {
        // `mkswap -U clear` of util-linux 2.41 on a file of 64 KiB.
        let page = header(64 << 10);
        assert_eq!(page[1024..1032], [1, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(&page[4086..], b"SWAPSPACE2");
    }
}
