//! `rescue worker`: the process that touches block devices for the others, and so may never return.
//! Serves one request at a time from its pool (`host::workers`), over its stdin.

use crate::capture::shoot;
use crate::report::Answer;
use crate::scan::{Ask, examine};
use crate::tool::Context;
use crate::undo::{EACH, keep};
use anyhow::{Context as _, ensure};
use contract::wire::{Reply, WorkerRequest};
use host::Root;
use host::device::Device;
use host::sys::block::Limits;
use ondisk::table::Chs;
use ondisk::{DiskReport, Extent, Geometry, Piece};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Chunks of one device, and what is made of them.
pub const KEPT: i32 = 512 << 10;

pub fn run(context: &Context, _arguments: &[OsString]) -> anyhow::Result<Answer> {
    serve(&context.root).context("serve the pool")?;
    Ok(Answer::exit(contract::exit::YES))
}

/// The same in a copy of a tool.
pub fn work() {
    if let Ok(root) = Root::live() {
        // That the pool is gone is the end of it, and there is nobody to tell.
        let _ = serve(&root);
    }
}

fn serve(root: &Root) -> std::io::Result<()> {
    host::sys::memory::keep(KEPT);
    host::workers::serve(|request| {
        // Hostile bytes that make a parser panic are an answer about that disk, no more.
        let done = catch_unwind(AssertUnwindSafe(|| answer(root, &request)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the parser failed on what is on this device")));
        done.or_else(|error| Ok(serde_json::to_vec(&Reply::Failed { error: format!("{error:#}") })?))
    })
}

/// The reply, as JSON.
fn answer(root: &Root, request: &WorkerRequest) -> anyhow::Result<Vec<u8>> {
    match request {
        WorkerRequest::SetReadOnly { path, read_only } => {
            host::sys::block::set_read_only(Path::new(path), *read_only)
                .with_context(|| format!("set the read-only flag of {path}"))?;
            Ok(serde_json::to_vec(&Reply::Done)?)
        }
        WorkerRequest::SetMd { array, attribute, text } => {
            host::md::write(root, array, attribute, text)
                .with_context(|| format!("write {text} to {attribute} of {array}"))?;
            Ok(serde_json::to_vec(&Reply::Done)?)
        }
        WorkerRequest::Examine { path, logical_block, size, sections } => {
            Ok(host::workers::value(&look(path, *size, geometry(*logical_block), &extents(sections))?)?)
        }
        WorkerRequest::ExamineTable { path, logical_block, size } => {
            Ok(host::workers::value(&look_at_table(path, *size, geometry(*logical_block))?)?)
        }
        WorkerRequest::Capture { path, logical_block, size, sections, limit, into } => {
            let device = open(path, *size)?;
            let sections = extents(sections);
            let shot = shoot(&device, geometry(*logical_block), &sections, *limit, Path::new(into))?;
            Ok(host::workers::value(&shot)?)
        }
        WorkerRequest::Save { path, logical_block, size, windows, limit, into } => {
            let device = open(path, *size)?;
            let kept = keep(&device, geometry(*logical_block), &extents(windows), *limit, Path::new(into))?;
            Ok(host::workers::value(&kept)?)
        }
        WorkerRequest::PutBack { path, size, from, window } => {
            let end = window.start.checked_add(window.length).filter(|end| end <= size);
            ensure!(end.is_some() && window.length <= EACH, "there is no such window in {path}");
            let mut bytes = vec![0; window.length as usize]; // EACH at most
            let file = File::open(from).with_context(|| format!("open {from}"))?;
            file.read_exact_at(&mut bytes, window.start).with_context(|| format!("read {from}"))?;
            host::device::write(Path::new(path), window.start, &bytes)
                .map_err(|error| used(path, error, "write"))?;
            Ok(serde_json::to_vec(&Reply::Done)?)
        }
        WorkerRequest::Claim { path } => {
            host::device::claim(Path::new(path)).map_err(|error| used(path, error, "open"))?;
            Ok(serde_json::to_vec(&Reply::Done)?)
        }
    }
}

/// In words, where the kernel does not say by what.
fn used(path: &str, error: std::io::Error, what: &str) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::ResourceBusy => anyhow::anyhow!(
            "{path} is in use: the kernel has it, a partition of it or its disk as a journal, a member or a mount"
        ),
        _ => anyhow::Error::new(error).context(format!("{what} {path}")),
    }
}

/// What is on a device. May never return.
fn look(path: &str, size: u64, geometry: Geometry, sections: &[Extent]) -> anyhow::Result<DiskReport> {
    Ok(examine(&open(path, size)?, geometry, sections))
}

/// The table alone.
fn look_at_table(path: &str, size: u64, geometry: Geometry) -> anyhow::Result<DiskReport> {
    Ok(table_of(&open(path, size)?, geometry))
}

/// With the geometry that the drive says, where the label has none and is shown by it.
fn table_of(device: &Read, geometry: Geometry) -> DiskReport {
    let mut report = ondisk::examine_table(device, geometry);
    if let Some(label) = report.table.as_mut().and_then(|table| table.label.as_mut()) {
        label.geometry = label.geometry.or_else(|| drive(&device.0));
    }
    report
}

/// One of the two, and what the kernel says of the device now that it is open.
pub fn look_in_place(ask: &Ask, table_alone: bool) -> anyhow::Result<(DiskReport, Option<Limits>)> {
    let device = open(&ask.path, ask.size)?;
    // Where it does not say so, sysfs may.
    let limits = device.0.limits().ok();
    let logical = limits.map_or(0, |limits| limits.logical_block);
    let geometry = if logical == 0 { ask.geometry } else { geometry(logical) };
    let report =
        if table_alone { table_of(&device, geometry) } else { examine(&device, geometry, &ask.sections) };
    Ok((report, limits))
}

fn open(path: &str, size: u64) -> anyhow::Result<Read> {
    Ok(Read(Device::open(Path::new(path), size).with_context(|| format!("open {path}"))?))
}

/// As the drive has it, for a label that counts in cylinders and does not say how large one is.
fn drive(device: &Device) -> Option<Chs> {
    let (heads, sectors) = device.geometry()?;
    let size = device.size() / 512;
    let cylinders = u32::try_from(size / u64::from(heads.get() * sectors.get())).ok()?;
    Some(Chs { cylinders, heads: heads.get(), sectors: sectors.get() })
}

fn geometry(logical: u32) -> Geometry {
    Geometry { logical, physical: logical }
}

fn extents(sections: &[contract::guard::Extent]) -> Vec<Extent> {
    sections.iter().map(|extent| Extent { start: extent.start, length: extent.length }).collect()
}

/// `host` knows devices, `ondisk` reads bytes; neither knows the other.
struct Read(Device);

impl ondisk::ReadAt for Read {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ondisk::ReadError> {
        self.look(offset, buf.len(), |device| device.read_at(offset, buf))
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, ondisk::ReadError> {
        self.look(offset, length, |device| device.bytes(offset, length))
    }

    fn many(&self, stretches: &[(u64, usize)]) -> Vec<Result<Piece, ondisk::ReadError>> {
        let piece = |read: std::io::Result<(Vec<u8>, usize)>, length: usize| {
            let (bytes, at) = read?;
            Piece::new(bytes, at..at + length).ok_or(std::io::ErrorKind::UnexpectedEof.into())
        };
        let all = self.0.many(stretches).into_iter().zip(stretches);
        all.map(|(read, (offset, length))| self.look(*offset, *length, |_| piece(read, *length))).collect()
    }
}

impl Read {
    fn look<T>(
        &self,
        offset: u64,
        length: usize,
        read: impl FnOnce(&Device) -> std::io::Result<T>,
    ) -> Result<T, ondisk::ReadError> {
        let (length, size) = (length as u64, self.0.size());
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(ondisk::ReadError::PastEnd { offset, length, size });
        }
        read(&self.0).map_err(|error| ondisk::ReadError::Device {
            offset,
            length,
            error: crate::report::without_errno(&error.to_string()),
        })
    }
}
