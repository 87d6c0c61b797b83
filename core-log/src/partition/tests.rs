//! One partition against what real Kafka answered.

mod oracles;
