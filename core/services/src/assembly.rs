//! Builds the services, each from the [`Context`] and those before it.

use std::sync::Arc;

use colonnade_replication::{Follower, Latest, ephemeral::Receivers};

use crate::{
    account_data, accounts, answers, background_jobs, bodies, context::Context, devices, directory,
    encryption, error::Result, filters, key_backup, lifecycle, limits, media, membership, presence,
    profiles, push, receipts, reports, rooms, services::Services, sync, timeline, to_device,
    typing,
};

impl Services {
    /// Builds the services.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(context: Arc<Context>) -> Result<Arc<Self>> {
        // Before anybody reads where things stand: what comes meanwhile is told.
        let follower = Follower::new(&context.streams);
        let seen = Arc::new(Latest::new(context.streams.positions()));
        let limits = limits::Limits::start(Arc::clone(&context));
        let accounts = Arc::new(accounts::Accounts::new(Arc::clone(&context), Arc::clone(&limits)));
        let devices = devices::Devices::new(Arc::clone(&context), Arc::clone(&accounts));
        let profiles = Arc::new(profiles::Profiles::new(Arc::clone(&context)));
        let account_data = Arc::new(account_data::AccountDataService::new(Arc::clone(&context)));
        let push = Arc::new(push::Push::new(Arc::clone(&context), Arc::clone(&account_data)));
        let filters = filters::Filters::new(Arc::clone(&context));
        let (who, rates) = (Arc::clone(&accounts), Arc::clone(&limits));
        let encryption = Arc::new(encryption::Encryption::new(Arc::clone(&context), who, rates));
        let key_backup = key_backup::KeyBackup::new(Arc::clone(&context));
        let to_device = Arc::new(to_device::ToDevice::new(Arc::clone(&context)));
        let media = media::Media::start(Arc::clone(&context)).await?;
        let rooms = rooms::Rooms::start(&context);
        let membership =
            Arc::new(membership::MembershipService::new(Arc::clone(&context), rooms.clone()));
        let lifecycle = lifecycle::RoomLifecycle::new(
            Arc::clone(&context),
            rooms.clone(),
            Arc::clone(&membership),
        );
        let reports = reports::Reports::new(Arc::clone(&context), rooms.clone());
        let directory = directory::Directory::new(Arc::clone(&context), rooms.clone());
        let words =
            timeline::WordIndex::start(Arc::clone(&context), rooms.clone(), Arc::clone(&seen))
                .await?;
        let data = Arc::clone(&account_data);
        let timeline = timeline::Timeline::new(Arc::clone(&context), rooms.clone(), data, words);
        let timeline = Arc::new(timeline);
        let receipts = Arc::new(receipts::Receipts::new(Arc::clone(&context), rooms.clone()));
        let typing = typing::Typing::start(Arc::clone(&context), rooms.clone());
        let presence = presence::Presence::start(Arc::clone(&context));
        listen(&context, &typing, &presence, &limits);
        let answers = answers::Answers::new(context.settings.requests.answers_bytes_max);
        let sources = sync::Sources {
            answers: Arc::clone(&answers),
            rooms: rooms.clone(),
            timeline: Arc::clone(&timeline),
            encryption: Arc::clone(&encryption),
            to_device: Arc::clone(&to_device),
            receipts: Arc::clone(&receipts),
            typing: Arc::clone(&typing),
            presence: Arc::clone(&presence),
            account_data: Arc::clone(&account_data),
        };
        let sync = sync::Sync::start(Arc::clone(&context), sources).await?;
        let follower = follower.cache(&accounts).cache(&account_data).cache(&push);
        let follower = follower.cache(&encryption).cache(rooms.store());
        // Who keeps something in memory before who wakes others.
        let follower = follower.subscribe(&presence).subscribe(&typing);
        follower.subscribe(&seen).subscribe(sync.notifier()).start();
        let services = Arc::new(Self {
            bodies: bodies::Bodies::new(context.settings.requests.bodies_bytes_max),
            answers,
            context,
            limits,
            accounts,
            devices,
            profiles,
            account_data,
            push,
            filters,
            reports,
            encryption,
            key_backup,
            to_device,
            media,
            rooms,
            membership,
            lifecycle,
            directory,
            timeline,
            receipts,
            typing,
            presence,
            sync,
        });
        background_jobs::start(&services);
        Ok(services)
    }
}

/// Takes in what other processes say of what lives in memory only.
fn listen(
    context: &Context,
    typing: &Arc<typing::Typing>,
    presence: &Arc<presence::Presence>,
    limits: &Arc<limits::Limits>,
) {
    Receivers::default()
        .on(&typing::CHANNEL, typing, typing::Typing::heard)
        .on(&presence::CHANNEL, presence, presence::Presence::heard)
        .on(&limits::CHANNEL, limits, limits::Limits::heard)
        .listen(&context.streams);
}
