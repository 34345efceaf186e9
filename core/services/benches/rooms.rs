//! What sending costs, in CPU time (signing, authorization, push rules, SQL and commit): `cargo bench
//! -p colonnade-services --bench rooms`. The limit for one send is 2 ms.

mod world;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{json, value::to_raw_value};
use world::{World, cpu::CpuTime};

/// Members of the room in which state is changed.
const MEMBERS: usize = 200;
/// Sends at once.
const TOGETHER: u64 = 64;

fn rooms(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = runtime.block_on(World::new());
    let alice = runtime.block_on(world.user("alice"));
    let room = runtime.block_on(world.room(&alice, 1));
    let mut n = 0;
    criterion.bench_function("send one", |bencher| {
        bencher.iter(|| {
            n += 1;
            runtime.block_on(world.send(&alice, &room, n));
        });
    });
    let mut group = criterion.benchmark_group("send together");
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("64", |bencher| {
        bencher.iter(|| {
            n += TOGETHER;
            let all = (0..TOGETHER).map(|k| world.send(&alice, &room, n - k));
            runtime.block_on(futures_util::future::join_all(all));
        });
    });
    group.finish();
    let large = runtime.block_on(world.room(&alice, MEMBERS));
    criterion.bench_function("change state", |bencher| {
        bencher.iter(|| {
            n += 1;
            let topic = to_raw_value(&json!({ "topic": n.to_string() })).expect("JSON");
            let set =
                world.services.membership.set_state(&alice, &large, "m.room.topic", "", &topic);
            runtime.block_on(set).expect("an event");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(20);
    targets = rooms
}
criterion_main!(benches);
