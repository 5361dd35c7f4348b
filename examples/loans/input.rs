//! A small generated log, in the form that `annals import` takes.

use std::fmt::Write as _;

/// The number of applications in the generated log.
const MADE_UP: u64 = 400;

/// Generates applications that come in every few hours, wait in each stage, and end in one of three
/// ways. The output is the same each time.
pub(crate) fn made_up() -> String {
    let mut events: Vec<(u64, u64, &str)> = Vec::new();
    let mut noise = Noise(1);
    for application in 1..=MADE_UP {
        let mut at = application * 3 * 3_600 + noise.below(3_600);
        events.push((at, application, "A_SUBMITTED"));
        at += 1;
        events.push((at, application, "A_PARTLYSUBMITTED"));
        let ways: [&[&str]; 4] = [
            &["A_DECLINED"],
            &["A_PREACCEPTED", "A_CANCELLED"],
            &["A_PREACCEPTED", "A_ACCEPTED", "A_FINALIZED", "A_APPROVED", "A_ACTIVATED"],
            // Never decided.
            &["A_PREACCEPTED"],
        ];
        let way = usize::try_from(noise.below(4)).unwrap_or_default();
        for step in ways.get(way).copied().unwrap_or_default() {
            at += 60 + noise.below(10 * 86_400);
            events.push((at, application, step));
        }
    }
    events.sort_unstable();
    let begin = 1_317_427_200;
    let mut lines = String::new();
    for (at, application, event_type) in events {
        let time = jiff::Timestamp::from_second(begin + i64::try_from(at).unwrap_or_default());
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        let data = if event_type == "A_SUBMITTED" {
            format!(r#"{{"AMOUNT_REQ":"{}"}}"#, application * 100)
        } else {
            "{}".to_owned()
        };
        let line = format!(r#""stream":"application-{application}","type":"{event_type}""#);
        // Writing to a string cannot fail.
        let _ = writeln!(lines, r#"{{{line},"time":"{time}","data":{data}}}"#);
    }
    lines
}

/// Pseudo-random numbers that are the same each time (Numerical Recipes' linear congruential
/// generator).
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % (1 << 32);
        (self.0 >> 8) % bound
    }
}
