//! What errors say, and what can be done about them.

use super::*;

#[test]
fn errors_of_the_operating_system_are_told_apart_by_meaning() {
    let of = |kind: io::ErrorKind| Error::io(Path::new("/log"), "write", kind.into());
    assert!(matches!(of(io::ErrorKind::StorageFull), Error::DiskFull { .. }));
    assert!(matches!(of(io::ErrorKind::ReadOnlyFilesystem), Error::ReadOnlyDirectory { .. }));
    assert!(matches!(of(io::ErrorKind::PermissionDenied), Error::ReadOnlyDirectory { .. }));
    assert!(matches!(of(io::ErrorKind::NotFound), Error::Io { operation: "write", .. }));
    let unreadable = Error::io(Path::new("/log"), "read", io::ErrorKind::PermissionDenied.into());
    assert!(matches!(unreadable, Error::Io { operation: "read", .. }));
}

#[test]
fn messages_name_what_a_person_needs_and_the_recourse_fits() {
    let cases = [
        (
            Error::OffsetOutOfRange { requested: 9, start: 2, end: 5 },
            "offset 9 is out of range: the partition holds 2 to 5 (exclusive)",
            Recourse::FixInput,
        ),
        (
            Error::DirectoryLocked { path: "/log".into(), pid: Some(7), since_ms: None },
            "/log is in use by process 7",
            Recourse::Retry,
        ),
        (
            Error::Damaged {
                topic: "t".to_owned(),
                partition: 3,
                path: "/log/t-3/x.log".into(),
                position: 61,
                offset: 4,
                reason: "the checksum differs".to_owned(),
            },
            "t-3 is damaged from offset 4 on: /log/t-3/x.log at byte 61: the checksum differs; \
             what can be done: log_dump --repair",
            Recourse::Fatal,
        ),
        (
            Error::OutOfOrderSequence { producer_id: ProducerId(1), expected: 2, actual: 4 },
            "producer 1 sent sequence 4 where 2 was expected",
            Recourse::AbortTransaction,
        ),
        (Error::Closed, "the log is closed", Recourse::Fatal),
    ];
    for (error, message, recourse) in cases {
        assert_eq!((error.to_string().as_str(), error.recourse()), (message, recourse));
    }
}
