//! What the crate writes is read, and of any bytes both say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::BINCODE;
use super::decode;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Nothing,
    One(i32),
    Two(u8, String),
    Named { at: i64, list: Vec<Choice> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    unsigned: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64, i128),
    floats: (f32, f64),
    text: String,
    letter: char,
    flag: bool,
    maybe: Option<Wrapped>,
    nothing: ((), Unit),
    list: Vec<(u16, String)>,
    map: BTreeMap<String, i16>,
    array: [u16; 3],
    choice: Choice,
}

fn choice() -> impl Strategy<Value = Choice> {
    let leaf = prop_oneof![
        Just(Choice::Nothing),
        any::<i32>().prop_map(Choice::One),
        (any::<u8>(), ".*").prop_map(|(n, text)| Choice::Two(n, text)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (any::<i64>(), prop::collection::vec(inner, 0..3))
            .prop_map(|(at, list)| Choice::Named { at, list })
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let numbers = (any::<(u8, u16, u32, u64, u128)>(), any::<(i8, i16, i32, i64, i128)>());
    let floats = (prop::num::f32::NORMAL, prop::num::f64::NORMAL);
    let texts = (".*", any::<char>(), any::<bool>(), any::<Option<u32>>());
    let lists = (any::<Vec<(u16, String)>>(), any::<BTreeMap<String, i16>>(), any::<[u16; 3]>());
    (numbers, floats, texts, lists, choice()).prop_map(|(numbers, floats, texts, lists, choice)| {
        let (text, letter, flag, maybe) = texts;
        let (list, map, array) = lists;
        Everything {
            unsigned: numbers.0,
            signed: numbers.1,
            floats,
            text,
            letter,
            flag,
            maybe: maybe.map(Wrapped),
            nothing: ((), Unit),
            list,
            map,
            array,
            choice,
        }
    })
}

/// What the crate makes of bytes, and what we make of them.
fn both<T: DeserializeOwned>(bytes: &[u8]) -> (Option<T>, Option<T>) {
    let theirs = bincode::serde::decode_from_slice::<T, _>(bytes, BINCODE);
    let whole = theirs.ok().filter(|(_, consumed)| *consumed == bytes.len());
    (whole.map(|(value, _)| value), decode(bytes).ok())
}

fn agree<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    // Compared by their bytes: a float may be no number, which equals nothing.
    let again = |value: T| bincode::serde::encode_to_vec(value, BINCODE).unwrap();
    let (theirs, ours) = both::<T>(bytes);
    assert_eq!(theirs.map(again), ours.map(again), "{bytes:?}");
}

proptest! {
    #[test]
    fn what_the_crate_writes_is_read(value in everything(), cut: prop::sample::Index) {
        let bytes = bincode::serde::encode_to_vec(&value, BINCODE).unwrap();
        prop_assert_eq!(decode::<Everything>(&bytes).unwrap(), value);
        let end = cut.index(bytes.len());
        prop_assert!(decode::<Everything>(&bytes[..end]).is_err(), "cut at {}", end);
    }

    #[test]
    fn of_any_bytes_both_say_the_same(bytes: Vec<u8>) {
        agree::<Choice>(&bytes);
        agree::<Vec<Choice>>(&bytes);
        agree::<(u16, i16, u32, i32)>(&bytes);
        agree::<(u64, i64)>(&bytes);
        agree::<u128>(&bytes);
        agree::<i128>(&bytes);
        agree::<(bool, Option<u8>, f32)>(&bytes);
        agree::<(char, String)>(&bytes);
        agree::<BTreeMap<u8, String>>(&bytes);
    }

    /// A byte of good ones is changed: the same value, another one, or none, for both.
    #[test]
    fn of_damaged_bytes_both_say_the_same(value in everything(), at: prop::sample::Index, to: u8) {
        let mut bytes = bincode::serde::encode_to_vec(&value, BINCODE).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        agree::<Everything>(&bytes);
    }
}

#[test]
fn numbers_have_one_form_for_each_size() {
    for tag in 251..=255_u8 {
        let mut bytes = vec![tag];
        bytes.extend([1; 16]);
        for length in 0..=bytes.len() {
            let bytes = &bytes[..length];
            agree::<u8>(bytes);
            agree::<u16>(bytes);
            agree::<u32>(bytes);
            agree::<u64>(bytes);
            agree::<u128>(bytes);
            agree::<i8>(bytes);
            agree::<i16>(bytes);
            agree::<i32>(bytes);
            agree::<i64>(bytes);
            agree::<i128>(bytes);
            agree::<String>(bytes);
        }
    }
}

#[test]
fn items_without_bytes_are_counted_only_so_far() {
    let claim = [253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let reason = decode::<Vec<()>>(&claim).unwrap_err().to_string();
    assert_eq!(reason, "the bytes claim a value above the limit of 16777216");
    assert_eq!(decode::<Vec<()>>(&[3]).unwrap().len(), 3);
}

#[test]
fn each_character_is_read_and_no_other_bytes() {
    for letter in ['a', '\u{e9}', '\u{20ac}', '\u{1f600}', '\0', char::MAX] {
        let bytes = bincode::serde::encode_to_vec(letter, BINCODE).unwrap();
        assert_eq!(decode::<char>(&bytes).unwrap(), letter);
    }
    for first in 0..=255_u8 {
        agree::<char>(&[first]);
        agree::<char>(&[first, 0x80]);
        agree::<char>(&[first, 0x80, 0x80]);
        agree::<char>(&[first, 0x80, 0x80, 0x80]);
    }
}
