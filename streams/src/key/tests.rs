//! Golden bytes of every kind of key, and the three laws: round trip, order, no panic.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

fn encoded<K: RecordKey>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(key.encode(&mut out), "not a null key");
    out
}

fn member<K: Key>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode_member(&mut out);
    out
}

fn decoded<K: RecordKey>(bytes: &[u8]) -> Result<K, KeyError> {
    K::decode(Some(bytes)).map(|key| key.expect("bytes are not a null key"))
}

fn assert_survives<K: Key + Debug>(key: &K) {
    assert_eq!(&decoded::<K>(&encoded(key)).expect("own bytes"), key);
    let mut bytes = member(key);
    bytes.extend_from_slice(b"tail");
    let mut rest = bytes.as_slice();
    assert_eq!(&K::decode_member(&mut rest).expect("own bytes"), key);
    assert_eq!(rest, b"tail");
}

fn assert_ordered<K: Key + Debug>(a: &K, b: &K) {
    assert_eq!(encoded(a).cmp(&encoded(b)), a.cmp(b), "plain form of {a:?} and {b:?}");
    assert_eq!(member(a).cmp(&member(b)), a.cmp(b), "member form of {a:?} and {b:?}");
}

#[test]
fn golden_bytes_of_every_kind() {
    assert_eq!(encoded(&"/h\0me".to_owned()), b"/h\0me");
    assert_eq!(encoded(&vec![0u8, 255]), [0, 255]);
    assert_eq!(encoded(&1u32), [0, 0, 0, 1]);
    assert_eq!(encoded(&1u64), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(encoded(&-1i32), [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(encoded(&i64::MIN), [0; 8]);
    assert_eq!(encoded(&0i64), [0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoded(&("a\0".to_owned(), "b\0".to_owned())), b"a\x00\xff\x00\x00b\0");
    assert_eq!(encoded(&(1u32, "x".to_owned(), 2u32)), b"\0\0\0\x01x\0\0\0\0\0\x02");
    let window = Windowed { key: "k".to_owned(), start: 0, end: 1 };
    assert_eq!(encoded(&window), b"k\x80\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\x01");
    assert_eq!(member(&window), b"k\0\0\x80\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\x01");
}

#[test]
fn no_key_is_a_null_key_and_accepts_any() {
    let mut out = Vec::new();
    assert!(!NoKey.encode(&mut out));
    assert_eq!(out, b"");
    assert_eq!(NoKey::decode(None), Ok(Some(NoKey)));
    assert_eq!(NoKey::decode(Some(b"anything")), Ok(Some(NoKey)));
}

#[test]
fn a_null_key_is_not_an_empty_one() {
    assert_eq!(String::decode(None), Ok(None));
    assert_eq!(String::decode(Some(b"")), Ok(Some(String::new())));
    assert_eq!(<(u32, String)>::decode(None), Ok(None));
    assert_eq!(Windowed::<String>::decode(None), Ok(None));
    assert_eq!(u64::decode(None), Ok(None));
}

#[test]
fn bytes_of_another_type_are_refused_with_the_reason() {
    assert_eq!(
        decoded::<u64>(&[1, 2]),
        Err(KeyError::Length { kind: "u64", expected: 8, actual: 2 })
    );
    assert_eq!(decoded::<String>(b"ok\xff"), Err(KeyError::NotUtf8 { valid_up_to: 2 }));
    assert_eq!(decoded::<(String, u32)>(b"abc"), Err(KeyError::Unterminated { actual: 3 }));
    assert_eq!(
        decoded::<(String, u32)>(b"a\x00\x07"),
        Err(KeyError::BadEscape { at: 2, found: 7 })
    );
    assert_eq!(
        decoded::<Windowed<String>>(&[0; 15]),
        Err(KeyError::Length { kind: "Windowed", expected: 16, actual: 15 })
    );
}

#[test]
fn a_window_goes_to_the_partition_of_its_inner_key() {
    let inner = Windowed { key: "page".to_owned(), start: -60_000, end: 0 };
    assert_eq!(Windowed::<String>::partition_bytes(&encoded(&inner)), b"page");
    let outer = Windowed { key: inner, start: 0, end: 1 };
    assert_eq!(Windowed::<Windowed<String>>::partition_bytes(&encoded(&outer)), b"page");
    assert_eq!(Windowed::<String>::partition_bytes(b"short"), b"short");
    assert_eq!(String::partition_bytes(b"page"), b"page");
}

#[test]
fn windows_at_the_ends_of_time_keep_their_order() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX];
    for pair in times.windows(2) {
        assert!(encode_i64(pair[0]) < encode_i64(pair[1]), "{pair:?}");
        assert_eq!(decode_i64(encode_i64(pair[0])), pair[0]);
    }
    let mut out = Vec::new();
    windowed_key(b"k", i64::MIN, i64::MAX, &mut out);
    assert_eq!(split_windowed(&out), Some((b"k".as_slice(), i64::MIN, i64::MAX)));
}

/// Few distinct bytes, so that prefixes, zeros and the bytes around the escape meet often.
fn tricky_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(vec![0x00, 0x01, b'a', 0xfe, 0xff]);
    prop::collection::vec(byte, 0..6)
}

proptest! {
    #[test]
    fn keys_survive_encoding(
        text in "[\\x00a\u{e9}]*", raw in tricky_bytes(), a: u64, b: u32, c: i64, d: i32,
    ) {
        assert_survives(&text);
        assert_survives(&raw);
        assert_survives(&a);
        assert_survives(&b);
        assert_survives(&c);
        assert_survives(&d);
        assert_survives(&(text.clone(), raw.clone()));
        assert_survives(&(raw.clone(), c, text.clone()));
        assert_survives(&((text.clone(), raw.clone()), b));
        let window = Windowed { key: (text, raw), start: c, end: i64::from(d) };
        assert_survives(&window);
        assert_survives(&(window.clone(), window.clone()));
        assert_survives(&Windowed { key: window, start: c, end: c });
    }

    #[test]
    fn bytes_compare_as_keys_do(
        x in (tricky_bytes(), any::<i32>(), tricky_bytes()),
        y in (tricky_bytes(), any::<i32>(), tricky_bytes()),
        a: i64, b: i64,
    ) {
        assert_ordered(&x, &y);
        assert_ordered(&x.0, &y.0);
        assert_ordered(&(x.0.clone(), x.2.clone()), &(y.0.clone(), y.2.clone()));
        assert_ordered(&((x.0.clone(), x.1), x.2.clone()), &((y.0.clone(), y.1), y.2.clone()));
        assert_ordered(&x.1, &y.1);
        assert_ordered(&a, &b);
        let window = |key: i64, start: i32| Windowed { key, start: start.into(), end: 0 };
        assert_ordered(&window(a, x.1), &window(b, y.1));
        // Variable inner keys: the windows of one key are in the order of time.
        let one = |start: i64| Windowed { key: x.0.clone(), start, end: start };
        assert_ordered(&one(a), &one(b));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop_oneof![any::<Vec<u8>>(), tricky_bytes()]) {
        let _text = decoded::<String>(&bytes);
        let _pair = decoded::<(String, Vec<u8>)>(&bytes);
        let _nested = decoded::<((Vec<u8>, u32), i64, String)>(&bytes);
        let _window = decoded::<(Windowed<String>, Windowed<u64>)>(&bytes);
        let _split = split_windowed(&bytes);
        let _partition = Windowed::<Windowed<String>>::partition_bytes(&bytes);
    }
}
