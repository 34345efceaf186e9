//! Who asks, where only a worker can tell: for the key and for the rate of a user.

use super::context::Ctx;
use super::gateway::Gateway;
use crate::pipeline::active_config::ActiveConfig;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;
use crate::routing::sticky::{self, KeySources};

impl Gateway {
    /// Finds the user of a request that has been routed, if the routes file says whom to ask; puts it in
    /// place of the token as the key, and takes one request of the user's rate.
    pub(crate) async fn find_user(
        &self,
        head: &dyn Head,
        ctx: &mut Ctx,
        live: &ActiveConfig,
    ) -> Result<(), Reply> {
        let Some(pool) = live.config.whoami.and_then(|place| live.pools.get(place)) else {
            return Ok(());
        };
        let (path, query) = (head.target().path(), head.target().query());
        let authorization = head.text("authorization");
        let client = ctx.client_ip();
        let Some(token) = sticky::token(query, authorization) else { return Ok(()) };
        let clues = KeySources { path, query, authorization, client };
        let unresolved =
            ctx.route().is_some_and(|route| sticky::unresolved(route, &clues).is_some());
        if !unresolved && live.config.rate_per_user.is_none() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let user = self.users.of(&token, client, pool, now_ms).await;
        if let Some(rate) = live.config.rate_per_user {
            let who = user.as_deref().unwrap_or(&token);
            let refused = |ms| reply::LIMIT_EXCEEDED.after(ms);
            self.per_user.take(who, rate, now_ms).map_err(refused)?;
        }
        if let Some(user) = user.filter(|_| unresolved) {
            ctx.key = Some(user.as_bytes().to_vec());
        }
        Ok(())
    }
}
