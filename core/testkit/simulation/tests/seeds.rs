//! The cluster by seeds: hundreds in every test run, thousands by `make simulate`.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use colonnade_testkit_simulation::{Flaw, Outcome, Plan, Template, run};

/// The environment variable with the number of seeds.
const SEEDS: &str = "COLONNADE_SIMULATE_SEEDS";
/// The environment variable with the first seed.
const FIRST: &str = "COLONNADE_SIMULATE_FIRST";
/// Seeds of a test run.
const SEEDS_DEFAULT: u64 = 300;
/// Runs at once: each is one thread.
const THREADS: usize = 2;
/// Seeds after which a long run says how far it is.
const TELL_EVERY: u64 = 100;
/// Seeds among which one must notice what was left out.
const CONTROL_SEEDS: u64 = 40;

static TEMPLATE: LazyLock<Arc<Template>> = LazyLock::new(|| Arc::new(Template::make()));

#[expect(clippy::disallowed_methods, reason = "which seeds, is told to the test binary alone")]
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number of seeds"))
}

fn show(seed: u64, outcome: &Outcome) -> String {
    format!(
        "its end:\n{}\nseed {seed} failed:\n  {}\nto repeat it: make simulate FIRST={seed} SEEDS=1",
        outcome.end.join("\n"),
        outcome.violations.join("\n  ")
    )
}

#[test]
fn whatever_happens_nothing_is_lost_doubled_or_out_of_order() {
    let (first, count) = (number(FIRST, 0), number(SEEDS, SEEDS_DEFAULT));
    let (next, acknowledged) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(());
            }
            let outcome = run(&TEMPLATE, Plan { seed, flaw: Flaw::None });
            if !outcome.violations.is_empty() {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                return Err(show(seed, &outcome));
            }
            acknowledged.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
            let done = seed - first + 1;
            if done.is_multiple_of(TELL_EVERY) {
                eprintln!("{done} of {count} seeds");
            }
        }
    };
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let failed = threads.into_iter().find_map(|thread| thread.join().expect("a run").err());
        failed.unwrap_or_default()
    });
    assert!(failed.is_empty(), "{failed}");
    let acknowledged = acknowledged.into_inner();
    println!("{count} seeds, {acknowledged} messages acknowledged, each there once");
    assert!(acknowledged > count, "hardly anything was sent");
}

#[test]
fn a_seed_has_one_history() {
    for seed in 0..4 {
        let plan = Plan { seed, flaw: Flaw::None };
        let (one, other) = (run(&TEMPLATE, plan), run(&TEMPLATE, plan));
        assert_eq!(one.end, other.end, "seed {seed}");
        assert_eq!(one.digest, other.digest, "seed {seed}");
    }
}

/// Runs seeds until one notices what is left out, and returns what it noticed.
fn noticed(flaw: Flaw) -> Vec<String> {
    let outcomes = (0..CONTROL_SEEDS).map(|seed| run(&TEMPLATE, Plan { seed, flaw }).violations);
    outcomes.into_iter().find(|violations| !violations.is_empty()).unwrap_or_default()
}

#[test]
fn without_gaps_being_noticed_consumers_miss_rows() {
    let noticed = noticed(Flaw::NoGaps);
    assert!(noticed.iter().any(|what| what.contains("missed")), "{noticed:?}");
}

#[test]
fn without_owners_rooms_are_written_by_several() {
    let noticed = noticed(Flaw::NoOwners);
    assert!(noticed.iter().any(|what| what.contains("without owning it")), "{noticed:?}");
}
