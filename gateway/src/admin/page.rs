//! The status page: one look at pools, workers, load and table. Plain HTML that reloads itself,
//! without scripts or anything from elsewhere.

use std::fmt::Write;
use std::time::Duration;

use html_escape::encode_text;

use crate::admin::reload::LastReload;
use crate::pipeline::active_config::ActiveConfig;
use crate::upstream::health::State;

/// How often the page reloads itself, in seconds.
const RELOAD_S: u32 = 2;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;\
    padding:0 1rem;color:#1c2430;background:#fbfbf9}h1{font-size:1.3rem}h2{font-size:1rem;\
    margin:1.5rem 0 .3rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
    padding:.15rem .8rem .15rem 0;border-bottom:1px solid #e4e4de}td.n,th.n{text-align:right}\
    .open{color:#1a7f37}.draining{color:#9a6700}.down,.ejected,.bad{color:#b3261e;font-weight:600}\
    .muted{color:#6b7280}";

/// What the page shows besides what is in force.
pub(super) struct Facts {
    pub(super) connections: usize,
    pub(super) requests_per_s: f64,
    pub(super) errors_per_s: f64,
    pub(super) in_force_for: Duration,
    pub(super) last_reload: Option<LastReload>,
    pub(super) closing: bool,
    pub(super) now_ms: u64,
}

/// Writes the page.
pub(super) fn render(live: &ActiveConfig, facts: &Facts) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta http-equiv=refresh content={RELOAD_S}><title>Colonnade gateway</title>\
         <style>{STYLE}</style><h1>Colonnade gateway</h1>"
    );
    // Writing to a string cannot fail.
    let _infallible = head(&mut page, live, facts);
    for pool in &live.pools {
        let _infallible = pool_table(&mut page, pool, facts.now_ms);
    }
    page.push_str("</html>\n");
    page
}

fn head(page: &mut String, live: &ActiveConfig, facts: &Facts) -> std::fmt::Result {
    let (working, long_polling) = live.pools.iter().flat_map(|pool| &pool.members).fold(
        (0, 0),
        |(working, long_polling), member| {
            (working + member.working(), long_polling + member.long_polling())
        },
    );
    write!(
        page,
        "<p>{:.0} requests/s, <span{}>{:.1} errors/s</span>, {working} in flight, {long_polling} long polls \
         polls, {} connections{}</p>",
        facts.requests_per_s,
        if facts.errors_per_s > 0.0 { " class=bad" } else { "" },
        facts.errors_per_s,
        facts.connections,
        if facts.closing { ", <span class=bad>closing</span>" } else { "" },
    )?;
    write!(
        page,
        "<p>Table {} from {}, {} rules, in force for {} s. ",
        live.version,
        encode_text(&live.config.name),
        live.table.routes().len(),
        facts.in_force_for.as_secs(),
    )?;
    match &facts.last_reload {
        None => page.push_str("Not reloaded since the start.</p>"),
        Some(LastReload { at, refused: None }) => {
            write!(page, "Last reload {} s ago.</p>", at.elapsed().as_secs())?;
        }
        Some(LastReload { at, refused: Some(why) }) => write!(
            page,
            "<span class=bad>Last reload refused {} s ago:</span></p><pre>{}</pre>",
            at.elapsed().as_secs(),
            encode_text(why),
        )?,
    }
    Ok(())
}

fn pool_table(
    page: &mut String,
    pool: &crate::upstream::pools::Pool,
    now_ms: u64,
) -> std::fmt::Result {
    write!(
        page,
        "<h2>{} <span class=muted>{:?}</span></h2>",
        encode_text(&pool.name),
        pool.balance
    )?;
    if pool.members.is_empty() {
        page.push_str("<p class=bad>no workers</p>");
        return Ok(());
    }
    page.push_str(
        "<table><tr><th>worker<th>state<th class=n>weight<th class=n>in flight\
         <th class=n>long polls<th class=n>answered<th class=n>failed",
    );
    for member in &pool.members {
        let state = match member.health.state(now_ms) {
            State::Open => "open",
            State::Ejected => "ejected",
            State::Down => "down",
            State::Draining => "draining",
        };
        write!(
            page,
            "<tr><td>{}<td class={state}>{state}<td class=n>{}<td class=n>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}",
            encode_text(&member.name),
            member.weight,
            member.working(),
            member.long_polling(),
            member.served(),
            member.failures(),
        )?;
    }
    page.push_str("</table>");
    Ok(())
}
