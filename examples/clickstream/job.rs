//! The job: clicks per page and minute, bots left out. This file is all that a user has to write.

use streams::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    user: String,
    page: String,
    at: i64,
}

const CLICKS: Topic<NoKey, Click> = topic("clicks");
const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");

fn topology(t: &mut Topology) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

pub(crate) fn main() -> streams::Result<()> {
    App::new("clickstream", topology).log("./data").exactly_once().main()
}
