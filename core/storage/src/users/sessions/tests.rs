//! Tokens that were asked for too often end by themselves.

use super::*;
use crate::{
    database::testing::World,
    users::devices::{self, Device},
};

async fn openid_tokens_beyond_the_bound_end_the_users_oldest(world: World) {
    const ALICE: UserNid = UserNid(1);
    const BOB: UserNid = UserNid(2);
    let db = world.open().await;
    let insert = async |user: UserNid, n: u8| {
        let expires_ts = 1_000 + i64::from(n);
        db.write(move |tx| Box::pin(insert_openid_token(tx, [n; 32], user, expires_ts, 0, 3)))
            .await
            .unwrap();
    };
    insert(BOB, 0).await;
    for n in 1..=5 {
        insert(ALICE, n).await;
    }
    let mut found = Vec::new();
    for n in 0..=5 {
        found.push(find_openid_token(&db, [n; 32], 0).await.unwrap());
    }
    let alice = Some(ALICE);
    assert_eq!(found, [Some(BOB), None, None, alice, alice, alice]);
}

/// Makes the one device of a user.
async fn device_of(tx: &mut Tx, user: UserNid) -> Result<DeviceNid> {
    let device = Device {
        device: DeviceNid(user.0),
        device_id: "DEVICE".into(),
        display_name: None,
        last_seen_ts: None,
        last_seen_ip: None,
    };
    Ok(devices::create(tx, user, device, 0).await?.0)
}

async fn a_login_token_dies_with_its_device(world: World) {
    const ALICE: UserNid = UserNid(1);
    let db = world.open().await;
    let token = |device| LoginToken { hash: [1; 32], user: ALICE, device, expires_ts: 1_000 };
    let made = db.write(move |tx| {
        Box::pin(async move {
            let device = device_of(tx, ALICE).await?;
            let is_made = insert_login_token(tx, token(device), 0).await?;
            revoke(tx, &[device]).await?;
            Ok((is_made, take_login_token(tx, [1; 32], 0).await?))
        })
    });
    assert_eq!(made.await.unwrap(), (true, None));
    let gone = db.write(move |tx| Box::pin(insert_login_token(tx, token(DeviceNid(99)), 0)));
    assert!(!gone.await.unwrap(), "no device, no token");
}

async fn login_tokens_beyond_the_bound_end_the_users_oldest(world: World) {
    const ALICE: UserNid = UserNid(1);
    const BOB: UserNid = UserNid(2);
    let db = world.open().await;
    for (user, n) in [(BOB, 0), (ALICE, 1), (ALICE, 2), (ALICE, 3), (ALICE, 4)] {
        let insert = db.write(move |tx| {
            Box::pin(async move {
                let device = device_of(tx, user).await?;
                let expires_ts = 1_000 + i64::from(n);
                let token = LoginToken { hash: [n; 32], user, device, expires_ts };
                assert!(insert_login_token(tx, token, 0).await?);
                keep_login_tokens(tx, user, 2).await
            })
        });
        insert.await.unwrap();
    }
    let mut taken = Vec::new();
    for n in 0..=4 {
        let take = db.write(move |tx| Box::pin(take_login_token(tx, [n; 32], 0)));
        taken.push(take.await.unwrap());
    }
    assert_eq!(taken, [Some(BOB), None, None, Some(ALICE), Some(ALICE)]);
}

on_both!(
    a_login_token_dies_with_its_device,
    login_tokens_beyond_the_bound_end_the_users_oldest,
    openid_tokens_beyond_the_bound_end_the_users_oldest,
);
