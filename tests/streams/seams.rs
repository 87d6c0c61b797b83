//! Where tables, joins, windows, resets and crashes meet: each piece has its own tests, these are for
//! what lies between them.


use streams::prelude::*;

const CLICKS: Topic<String, String> = topic("clicks");
const RATES: Topic<String, u64> = topic("rates");
const OUT: Topic<String, String> = topic("out");

/// A task's places in two copies of one topic could not be told apart: after a crash one would miss rows.
#[test]
fn a_topic_of_a_global_table_is_read_once() {
    fn two_copies(t: &mut Topology) {
        let (a, b) = (t.global_table(RATES, "a"), t.global_table(RATES, "b"));
        let clicks = t.stream(CLICKS).join_global(&a, |c| c.clone(), |c, _| c);
        clicks.join_global(&b, |c| c.clone(), |c, _| c).to(OUT);
    }
    fn a_stream_too(t: &mut Topology) {
        let rates = t.global_table(RATES, "a");
        let own = t.stream(RATES).map(|rate| rate.to_string());
        own.join_global(&rates, |c| c.clone(), |c, _| c).to(OUT);
    }
    for topology in [two_copies, a_stream_too] {
        let error = TestDriver::new(topology).run().unwrap_err();
        assert_eq!(error.code(), "S018");
        let said = "a global table is kept of topic `rates`, which is read twice";
        assert!(error.to_string().contains(said), "{error}");
    }
}
