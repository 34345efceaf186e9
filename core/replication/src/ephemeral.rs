//! Ephemeral messages: what processes tell each other of what lives in memory only (who types, who is there,
//! what counts against a limit). One may get lost, and then is said again or runs out. Each [`Channel`] has
//! a name and a type of its own; what they mean is their owners' business.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{Arc, Weak},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::Streams;

/// A kind of message: `{"<name>": <message>}` on the bus.
pub struct Channel<T> {
    name: &'static str,
    messages: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned + 'static> Channel<T> {
    /// Names a channel. The name is part of what other versions understand.
    pub const fn new(name: &'static str) -> Self {
        Self { name, messages: PhantomData }
    }

    /// Tells the other processes, if there are any.
    pub fn send(&self, streams: &Streams, message: &T) {
        if streams.is_shared()
            && let Ok(text) = serde_json::to_vec(&HashMap::from([(self.name, message)]))
        {
            streams.send_ephemeral(&text);
        }
    }
}

/// Takes a message in; says whether its owner still lives.
type Receiver = Box<dyn Fn(&RawValue) -> bool + Send>;

/// Who takes messages in, by channel.
#[derive(Default)]
pub struct Receivers(HashMap<&'static str, Receiver>);

impl Receivers {
    /// Gives the messages of a channel to `owner`, as long as that lives.
    #[must_use]
    pub fn on<T, S>(mut self, channel: &Channel<T>, owner: &Arc<S>, take: fn(&S, T)) -> Self
    where
        T: DeserializeOwned + 'static,
        S: Send + Sync + 'static,
    {
        let (owner, name): (Weak<S>, _) = (Arc::downgrade(owner), channel.name);
        let receive = move |message: &RawValue| {
            let Some(owner) = owner.upgrade() else { return false };
            // What a newer version says and we do not understand is passed over.
            match serde_json::from_str(message.get()) {
                Ok(message) => take(&owner, message),
                Err(error) => {
                    tracing::debug!(%error, name, "an ephemeral message is not understood")
                }
            }
            true
        };
        self.0.insert(name, Box::new(receive));
        self
    }

    /// Takes in what other processes say, until the owner of a channel is gone.
    pub fn listen(self, streams: &Arc<Streams>) {
        let Some(mut messages) = streams.ephemeral_messages() else { return };
        tokio::spawn(async move {
            while let Some(text) = messages.next().await {
                let named: Result<HashMap<String, Box<RawValue>>, _> =
                    serde_json::from_slice(&text);
                for (name, message) in named.unwrap_or_default() {
                    if let Some(receive) = self.0.get(name.as_str())
                        && !receive(&message)
                    {
                        return;
                    }
                }
            }
        });
    }
}
