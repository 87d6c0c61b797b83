//! What becomes of a record that a step cannot take.
//!
//! Why one type: decoding, event times and the closures of a job fail for the same reason, a record
//! that is not as it should be, and who runs the job wants to decide once what that means.

/// What a job does with a record that does not decode (S002), whose event time lies too far ahead
/// (S022), or that a [`try_map`](crate::Stream::try_map) refuses (S031). For all steps with
/// [`App::on_error`](crate::App::on_error), for one with [`Stream::on_error`](crate::Stream::on_error).
///
/// A panic of a closure (S008) is no answer that a record gets: it stops the job, whatever the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The job stops with the error and nothing of the running transaction is written. It stops there
    /// again until the record, or the job, is mended.
    #[default]
    Fail,
    /// The record is left out. It is counted (`skipped`), and a warning says so, at most one for each
    /// task in ten seconds.
    Skip,
    /// The record goes to the topic `<id>-dlq`, in the same transaction as everything else, with where
    /// it came from and the reason in its headers; see [`DeadLetter`](crate::DeadLetter) for what is in
    /// there. It is counted (`dead_letters`). Letters are kept until somebody deletes them.
    DeadLetter,
}
