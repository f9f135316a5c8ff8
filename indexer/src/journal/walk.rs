//! The single entries of a file, whichever form it has, with the damage between them. Changes nothing.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;

use super::file::{FIRST_ENTRY, Form, Header, Scan, Step, read_header};
use super::run::Opener;

/// What stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// An entry. Whoever has applied it goes on at `after`: behind it, or where its run begins that has more entries.
    Entry { kind: u8, payload: &'a [u8], after: u64 },
    /// No entry can be read from `offset` to `end`, where the next one stands; or in all of a file without a header.
    Damaged { offset: u64, end: u64 },
    /// No entry from here to the end.
    Torn { offset: u64 },
}

/// Shows `each` what stands in `file` from `offset` to `end`, until it breaks off.
pub(super) fn walk(
    file: File,
    offset: u64,
    end: u64,
    mut each: impl FnMut(Found<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let Header::Known(form, marker, _) = read_header(&file)? else {
        return each(Found::Damaged { offset: 0, end }).map(drop);
    };
    let (mut scan, mut opener) = (Scan::new(file, marker, end), Opener::default());
    let mut offset = offset.max(FIRST_ENTRY);
    loop {
        let (flow, next) = match scan.step(offset)? {
            Step::Entry { kind, payload, end } if form == Form::Entries => {
                (each(Found::Entry { kind, payload, after: end })?, end)
            }
            Step::Entry { kind: method, payload, end } => {
                let flow = match opener.open(method, payload) {
                    Ok(entries) => each_of_run(&entries, offset, end, &mut each)?,
                    // Its check sum is right: it was damaged before it was written, or a later release wrote it.
                    Err(_) => each(Found::Damaged { offset, end })?,
                };
                (flow, end)
            }
            Step::Damaged { end } => (each(Found::Damaged { offset, end })?, end),
            Step::Torn => return each(Found::Torn { offset }).map(drop),
            Step::End => return Ok(()),
        };
        if flow.is_break() {
            return Ok(());
        }
        offset = next;
    }
}

fn each_of_run(
    entries: &[(u8, &[u8])],
    offset: u64,
    end: u64,
    each: &mut impl FnMut(Found<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<ControlFlow<()>> {
    for (n, (kind, payload)) in entries.iter().enumerate() {
        let after = if n + 1 == entries.len() { end } else { offset };
        if each(Found::Entry { kind: *kind, payload, after })?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
