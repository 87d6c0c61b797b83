//! Rows of many megabytes in the store of a processor.

use streams::prelude::*;

const WORDS: Topic<String, String> = topic("words");
const OUT: Topic<String, String> = topic("out");

#[test]
fn values_of_many_megabytes_are_kept_and_larger_ones_refused_by_name() {
    struct Grow {
        texts: KeyValueStore<String, String>,
    }
    impl Processor<String, String> for Grow {
        type Key = String;
        type Out = String;

        fn stores(&self) -> Vec<&dyn StateStore> {
            vec![&self.texts]
        }

        fn record(
            &mut self,
            ctx: &mut Ctx<'_, String, String>,
            record: Record<String, String>,
        ) -> Processed {
            let (Some(key), Some(size)) = (record.key, record.value) else { return Ok(()) };
            let before = self.texts.get(&key)?.map_or(0, |text| text.len());
            self.texts.put(&key, "x".repeat(size.parse()?))?;
            ctx.forward(key, before.to_string())?;
            Ok(())
        }
    }
    let topology = |t: &mut Topology| {
        let texts = t.store("texts");
        t.stream(WORDS).process("grow", Grow { texts }).to(OUT);
    };
    let mut d = TestDriver::new(topology);
    d.send(WORDS, "k".into(), (15 << 20).to_string()).run().unwrap();
    d.stop().send(WORDS, "k".into(), "1".into());
    let sizes: Vec<String> = d.read(OUT).into_iter().map(|(_, size)| size).collect();
    assert_eq!(sizes, ["0".to_owned(), (15 << 20).to_string()]);
    d.send(WORDS, "k".into(), (17 << 20).to_string());
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S025", "{error}");
    let told = error.to_string();
    assert!(told.contains("texts"), "{told}");
}
