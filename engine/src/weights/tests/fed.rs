//! Files that arrive by range give what the same files give in memory, hold little, and fail by name when they break off.

use super::super::blocks::BlockFormat;
use super::super::gguf::{MetadataValue, NewBlocks, ValueType, gguf_bytes};
use super::super::{Feed, TensorFile, WeightsError};
use super::{entry, file};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Drives work on a feed, serving what it wants from `files`; gives the result and the ranges served.
fn served<T>(feed: &Feed, files: &[Vec<u8>], work: impl Future<Output = T>) -> (T, Vec<std::ops::Range<u64>>) {
    let mut work = pin!(work);
    let mut ranges = Vec::new();
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (done, ranges);
        }
        let wanted = feed.take_wanted().expect("work that waits wants something");
        assert_eq!(feed.take_wanted(), None, "what is under way is not wanted twice");
        let bytes = files[wanted.file][wanted.range.start as usize..wanted.range.end as usize].to_vec();
        ranges.push(wanted.range.clone());
        feed.supply(&wanted, bytes);
    }
}

/// A safetensors file of `count` tensors of `elements` numbers each.
fn numbers(count: u64, elements: u64) -> Vec<u8> {
    let entries: Vec<String> = (0..count)
        .map(|at| entry(&format!("t{at:02}"), "F32", &[4, elements / 4], at * elements * 4, (at + 1) * elements * 4))
        .collect();
    let data: Vec<u8> = (0..count * elements).flat_map(|at| (at as f32).to_le_bytes()).collect();
    file(&format!("{{{}}}", entries.join(",")), &data)
}

/// A GGUF file whose header is longer than one window.
fn long_header() -> Vec<u8> {
    let tokens = vec![MetadataValue::String("abcdefgh".to_owned()); 400_000];
    let metadata = [("tokens", MetadataValue::Array(ValueType::String, tokens))];
    let bytes: Vec<u8> = (0..64 * 1000 * 2).map(|at| (at % 50) as u8).collect();
    let new = NewBlocks { name: "w", format: BlockFormat::F16, shape: &[64, 1000], bytes: &bytes };
    gguf_bytes("long", &metadata, &[new]).unwrap()
}

#[test]
fn what_arrives_by_range_is_what_lies_in_memory() {
    for bytes in [numbers(20, 1 << 20), long_header()] {
        let whole = TensorFile::from_bytes("whole", bytes.clone()).unwrap();
        let feed = Feed::new();
        let fed = feed.file(bytes.len() as u64);
        let files = [bytes];
        let (opened, _) = served(&feed, &files, feed.until_there(|| TensorFile::from_source("fed", fed.clone())));
        let opened = opened.unwrap();
        assert!(opened.feed().is_some() && whole.feed().is_none());
        let names: Vec<String> = whole.names().map(str::to_owned).collect();
        assert!(opened.names().eq(names.iter().map(String::as_str)));
        for name in &names {
            let (values, _) = served(&feed, &files, feed.until_there(|| opened.f32(name)));
            assert_eq!(values.unwrap(), whole.f32(name).unwrap(), "{name}");
            let rows = || {
                opened.expect_rows(name, 1..3)?;
                (1..3).map(|row| opened.f32_rows(name, row..row + 1)).collect::<Result<Vec<_>, WeightsError>>()
            };
            let (rows, ranges) = served(&feed, &files, feed.until_there(rows));
            assert!(ranges.len() <= 1, "{name}: rows that were expected come at once: {ranges:?}");
            assert_eq!(rows.unwrap().concat(), whole.f32_rows(name, 1..3).unwrap(), "{name}");
            // A tensor of 4 MiB, what was read ahead of it, and the window.
            assert!(feed.held() <= 32 << 20, "{name}: {} bytes are held", feed.held());
        }
    }
}

#[test]
fn work_that_touches_more_than_the_window_gets_to_its_end() {
    let bytes = numbers(20, 1 << 20);
    let feed = Feed::new();
    let fed = feed.file(bytes.len() as u64);
    let files = [bytes];
    let (opened, _) = served(&feed, &files, feed.until_there(|| TensorFile::from_source("fed", fed.clone())));
    let opened = opened.unwrap();
    let all = || opened.names().map(|name| opened.f32(name)).collect::<Result<Vec<_>, _>>();
    let (values, ranges) = served(&feed, &files, feed.until_there(all));
    assert_eq!(values.unwrap().concat().len(), 20 << 20);
    assert!(ranges.len() <= 21, "{} ranges for twenty tensors", ranges.len());
}

#[test]
fn a_feed_that_breaks_off_fails_and_can_begin_again() {
    let bytes = numbers(4, 1 << 20);
    let feed = Feed::new();
    let fed = feed.file(bytes.len() as u64);
    let files = [bytes];
    let (opened, _) = served(&feed, &files, feed.until_there(|| TensorFile::from_source("fed", fed.clone())));
    let opened = opened.unwrap();
    for answer in [None, Some(vec![0; 7])] {
        let mut work = pin!(feed.until_there(|| opened.f32("t03")));
        assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let wanted = feed.take_wanted().unwrap();
        match answer {
            None => feed.fail("the server hung up".to_owned()),
            Some(bytes) => feed.supply(&wanted, bytes),
        }
        let Poll::Ready(found) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        assert!(matches!(found, Err(WeightsError::Io { .. })), "{found:?}");
        // What was there is no longer trusted either.
        assert!(matches!(opened.f32("t00"), Err(WeightsError::Io { .. })));
        feed.reset();
    }
    let (found, _) = served(&feed, &files, feed.until_there(|| opened.f32("t03")));
    assert_eq!(found.unwrap().len(), 1 << 20);
    assert!(matches!(opened.f32("t99"), Err(WeightsError::Missing { .. })));
}
