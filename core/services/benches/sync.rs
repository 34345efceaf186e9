//! Incremental syncs of a user in 500 rooms, in CPU time: nothing new, and one new event. Criterion
//! measures the whole call, from a parsed request to an answer rendered as JSON; the limit for
//! nothing new is 100 µs.

mod world;

use std::time::Duration;

use colonnade_model::ruma::{OwnedRoomId, presence::PresenceState};
use colonnade_users::accounts::Session;
use colonnade_views::sync::SyncRequest;
use criterion::{Criterion, criterion_group, criterion_main, measurement::Measurement as _};
use world::{World, cpu::CpuTime};

const ROOMS: usize = 500;

/// Syncs, renders the answer and returns the next token.
async fn sync(world: &World, alice: &Session, since: Option<String>) -> String {
    let request = SyncRequest { since, set_presence: PresenceState::Online, ..Default::default() };
    let answer = world.services.sync.sync(alice, request).await.expect("an answer");
    let json = std::hint::black_box(answer.into_json().await.expect("JSON"));
    let token = json.split("\"next_batch\":\"").nth(1).expect("a token");
    token.split('"').next().expect("its end").to_owned()
}

fn syncs(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = runtime.block_on(World::new());
    let alice = runtime.block_on(world.user("alice"));
    let rooms: Vec<OwnedRoomId> = runtime.block_on(async {
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(world.room(&alice, 0).await);
        }
        rooms
    });
    let mut group = criterion.benchmark_group("sync of a user in 500 rooms");
    let since = runtime.block_on(sync(&world, &alice, None));
    group.bench_function("nothing new", |bencher| {
        bencher.iter(|| runtime.block_on(sync(&world, &alice, Some(since.clone()))));
    });
    let mut n = 0;
    group.bench_function("one new event", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            runtime.block_on(async {
                let mut since = sync(&world, &alice, None).await;
                for _ in 0..rounds {
                    n += 1;
                    world.send(&alice, &rooms[n as usize % ROOMS], n).await;
                    let began = CpuTime.start();
                    since = sync(&world, &alice, Some(since)).await;
                    spent += CpuTime.end(began);
                }
            });
            spent
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(20);
    targets = syncs
}
criterion_main!(benches);
