//! Builds the services, each from the [`Context`] and those before it, and subscribes them to what changes.

use std::sync::Arc;

use colonnade_delivery::{federation as delivery, push as pushing};
use colonnade_federation::{
    keys::KeyRing, messaging::Messaging, policy_servers::PolicyServerClient, transport::Transport,
};
use colonnade_model::stream::Positions;
use colonnade_replication::{Follower, Latest, ephemeral::Receivers};
use colonnade_rooms::{Context, Result, Rooms};
use colonnade_users::{
    account_data, accounts, answers, bodies, devices, encryption, filters, key_backup, limits,
    presence, profiles, push, to_device,
};
use colonnade_views::{directory, receipts, recent::Recent, sync, timeline, typing};

use crate::{
    background_jobs, federation, lifecycle, media, membership, reports, services::Services,
};

/// What concerns users and their devices, whatever rooms there are.
struct UserServices {
    limits: Arc<limits::Limits>,
    accounts: Arc<accounts::Accounts>,
    account_data: Arc<account_data::AccountDataService>,
    push: Arc<push::Push>,
    encryption: Arc<encryption::Encryption>,
    to_device: Arc<to_device::ToDevice>,
    presence: Arc<presence::Presence>,
    answers: Arc<answers::Answers>,
}

impl UserServices {
    fn start(context: &Arc<Context>, messaging: Messaging) -> Self {
        let limits = limits::Limits::start(Arc::clone(context));
        let accounts = Arc::new(accounts::Accounts::new(Arc::clone(context), Arc::clone(&limits)));
        let account_data = Arc::new(account_data::AccountDataService::new(Arc::clone(context)));
        let (who, rates) = (Arc::clone(&accounts), Arc::clone(&limits));
        Self {
            push: Arc::new(push::Push::new(Arc::clone(context), Arc::clone(&account_data))),
            encryption: Arc::new(encryption::Encryption::new(
                Arc::clone(context),
                who,
                rates,
                messaging,
            )),
            to_device: Arc::new(to_device::ToDevice::new(Arc::clone(context))),
            presence: presence::Presence::start(Arc::clone(context)),
            answers: answers::Answers::new(context.settings.requests.answers_bytes_max),
            limits,
            accounts,
            account_data,
        }
    }
}

/// What clients are shown of rooms.
struct ViewServices {
    timeline: Arc<timeline::Timeline>,
    receipts: Arc<receipts::Receipts>,
    typing: Arc<typing::Typing>,
    sync: Arc<sync::Sync>,
    /// How far the process has come in the streams.
    positions: Arc<Latest<Positions>>,
    /// Who came into rooms.
    moves: Arc<delivery::Moves>,
    /// Whose pushers, rules or rooms may have changed.
    changes: Arc<pushing::PusherChanges>,
}

impl ViewServices {
    /// Builds them, and subscribes everybody who has to hear of changes.
    async fn start(
        context: &Arc<Context>,
        rooms: &Rooms,
        users: &UserServices,
        history: Messaging,
    ) -> Result<Self> {
        // Before anybody reads where things stand: what comes meanwhile is told.
        let follower = Follower::new(&context.streams);
        let seen = Arc::new(Latest::new(context.streams.positions()));
        let (ours, theirs) = (Arc::clone(context), rooms.clone());
        let words = timeline::WordIndex::start(ours, theirs, Arc::clone(&seen)).await?;
        let (data, theirs) = (Arc::clone(&users.account_data), rooms.clone());
        let timeline = timeline::Timeline::new(Arc::clone(context), theirs, data, words, history);
        let timeline = Arc::new(timeline);
        let recent = Arc::new(Recent::new(Arc::clone(context), rooms.clone()));
        let (ours, theirs, newest) = (Arc::clone(context), rooms.clone(), Arc::clone(&recent));
        let receipts = Arc::new(receipts::Receipts::new(ours, theirs, newest));
        let typing = typing::Typing::start(Arc::clone(context), rooms.clone());
        let sources = sync::Sources {
            answers: Arc::clone(&users.answers),
            rooms: rooms.clone(),
            timeline: Arc::clone(&timeline),
            recent: Arc::clone(&recent),
            encryption: Arc::clone(&users.encryption),
            to_device: Arc::clone(&users.to_device),
            receipts: Arc::clone(&receipts),
            typing: Arc::clone(&typing),
            presence: Arc::clone(&users.presence),
            account_data: Arc::clone(&users.account_data),
        };
        let sync = Arc::new(sync::Sync::start(Arc::clone(context), sources).await?);
        let follower = follower.cache(&users.accounts).cache(&users.account_data);
        let follower = follower.cache(&users.push).cache(&users.encryption).cache(rooms.store());
        // Who keeps something in memory before who wakes others.
        let follower = follower.subscribe(&recent).subscribe(&users.presence).subscribe(&typing);
        let moves = Arc::new(delivery::Moves::default());
        let changes = Arc::new(pushing::PusherChanges::default());
        let follower = follower.subscribe(&moves).subscribe(&changes);
        follower.subscribe(&seen).subscribe(sync.notifier()).start();
        Ok(Self { timeline, receipts, typing, sync, positions: seen, moves, changes })
    }
}

/// Begins to tell other servers what happens here, and push gateways what notifies users.
fn deliver(
    (context, rooms, transport): (&Arc<Context>, &Rooms, &Transport),
    sources: delivery::EduSources,
    (positions, changes): (Arc<Latest<Positions>>, Arc<pushing::PusherChanges>),
    (push, timeline): (&Arc<push::Push>, &Arc<timeline::Timeline>),
) -> (Arc<delivery::FederationSender>, Arc<pushing::PushSender>) {
    let (ours, theirs, out) = (Arc::clone(context), rooms.clone(), transport.clone());
    let federation_sender = delivery::start(ours, theirs, out, Arc::clone(&positions), sources);
    let push_sender = pushing::start(pushing::PushSources {
        context: Arc::clone(context),
        rooms: rooms.clone(),
        transport: transport.clone(),
        positions,
        push: Arc::clone(push),
        timeline: Arc::clone(timeline),
        changes,
    });
    (federation_sender, push_sender)
}

impl Services {
    /// Builds the services.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(context: Arc<Context>) -> Result<Arc<Self>> {
        let transport = Transport::start(&context)?;
        let server_keys = KeyRing::new(Arc::clone(&context), transport.clone());
        let rooms = Rooms::start(&context, PolicyServerClient::shared(transport.clone()));
        let messaging = Messaging::new(transport.clone(), server_keys.clone(), rooms.clone());
        let users = UserServices::start(&context, messaging.clone());
        let media = media::Media::start(Arc::clone(&context), messaging.clone()).await?;
        let ViewServices { timeline, receipts, typing, sync, positions, moves, changes } =
            ViewServices::start(&context, &rooms, &users, messaging.clone()).await?;
        let UserServices { limits, accounts, account_data, push, .. } = users;
        let UserServices { encryption, to_device, presence, answers, .. } = users;
        let receivers = typing.listen(transport.listen(Receivers::default()));
        limits.listen(presence.listen(receivers)).listen(&context.streams);
        let (ours, theirs, asking) = (Arc::clone(&context), rooms.clone(), messaging.clone());
        let membership = Arc::new(membership::MembershipService::new(ours, theirs, asking));
        let (ours, theirs) = (Arc::clone(&context), rooms.clone());
        let federation = federation::FederationService::new(
            ours,
            theirs,
            Arc::clone(&membership),
            messaging.clone(),
            federation::EduOwners {
                typing: Arc::clone(&typing),
                receipts: Arc::clone(&receipts),
                presence: Arc::clone(&presence),
                to_device: Arc::clone(&to_device),
                encryption: Arc::clone(&encryption),
            },
        );
        let (who, keys, here) = (typing.clone(), encryption.clone(), presence.clone());
        let sources = delivery::EduSources { typing: who, encryption: keys, presence: here, moves };
        let (shared, followed) = ((&context, &rooms, &transport), (positions, changes));
        let (federation_sender, push_sender) =
            deliver(shared, sources, followed, (&push, &timeline));
        let (ours, theirs, members) = (Arc::clone(&context), rooms.clone(), membership.clone());
        let services = Arc::new(Self {
            bodies: bodies::Bodies::new(context.settings.requests.bodies_bytes_max),
            devices: devices::Devices::new(Arc::clone(&context), Arc::clone(&accounts)),
            profiles: Arc::new(profiles::Profiles::new(Arc::clone(&context))),
            filters: filters::Filters::new(Arc::clone(&context)),
            key_backup: key_backup::KeyBackup::new(Arc::clone(&context)),
            lifecycle: lifecycle::RoomLifecycle::new(ours, theirs, members),
            reports: reports::Reports::new(Arc::clone(&context), rooms.clone()),
            directory: directory::Directory::new(Arc::clone(&context), rooms.clone(), messaging),
            answers,
            context,
            limits,
            accounts,
            account_data,
            push,
            encryption,
            to_device,
            media,
            rooms,
            membership,
            timeline,
            receipts,
            typing,
            presence,
            sync,
            transport,
            server_keys,
            federation,
            federation_sender,
            push_sender,
        });
        background_jobs::start(&services);
        membership::guests::start(&services);
        Ok(services)
    }
}
