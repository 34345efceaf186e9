//! Asks workers whether they are well: `GET <path>` on a fresh connection, any 2xx within the time
//! is a yes. What follows from the answers is `health.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::{Address, HealthConfig};
use crate::pipeline::active_config::{ActiveConfig, Clock};
use crate::upstream::pools::{Member, Pool};
use crate::upstream::transport::Plain;

/// How often it is looked whether a check is due; the finest interval a file can ask for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `HTTP/1.1 200`: all of an answer that is read.
const STATUS_LINE_LEN: usize = 12;

/// Runs the checks of whatever is in force, until dropped.
pub(crate) async fn run(live: Arc<ArcSwap<ActiveConfig>>, clock: Clock) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let live = live.load();
        let now_ms = clock.now_ms();
        for pool in &live.pools {
            let Some(config) = &pool.health else {
                pool.members.iter().for_each(|member| member.health.forget_checks());
                continue;
            };
            let every_ms = config.interval.as_millis() as u64;
            for member in &pool.members {
                if member.health.check_begins(every_ms, now_ms) {
                    let (pool, member) = (Arc::clone(pool), Arc::clone(member));
                    tokio::spawn(check(pool, member, config.clone(), clock));
                }
            }
        }
    }
}

async fn check(pool: Arc<Pool>, member: Arc<Member>, config: HealthConfig, clock: Clock) {
    let asked = tokio::time::timeout(config.timeout, ask(&member.address, &config.path)).await;
    let well = matches!(asked, Ok(Ok(true)));
    let (down_after, up_after) = (config.down_after, config.up_after);
    if member.health.checked(well, down_after, up_after, clock.now_ms()) {
        tracing::warn!(pool = pool.name, worker = member.name, well, "worker changed its health");
        pool.changed.notify_waiters();
    }
    member.health.check_ends();
}

async fn ask(address: &Address, path: &str) -> io::Result<bool> {
    let mut stream = Plain::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: colonnade\r\nuser-agent: colonnade-health\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; STATUS_LINE_LEN];
    stream.read_exact(&mut line).await?;
    Ok(line.starts_with(b"HTTP/1.") && line[9] == b'2')
}
