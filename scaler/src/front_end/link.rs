//! One stream to one replica of the scaler, opened again whenever it ends.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use maniple_core::slots::message::{Epoch, ToDataRole};
use maniple_front::control::{StreamEvent, StreamId};
use maniple_proto::slots::{FromDataRole, FromFrontEnd, slots_client::SlotsClient};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{FrontError, connector::Connector, metrics::LinkMetrics, routing::Routing};
use crate::slots::wire::{self, Heard};

/// Shortest and longest pause before a stream is opened again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A stream that lived this long was a good one: the next pause is the shortest.
const GOOD: Duration = Duration::from_secs(5);
/// How long a replica may take to accept a stream, and to end one after its last message.
const ANSWER: Duration = Duration::from_secs(2);
/// Messages towards a replica that wait for the network. A stream that takes no more is given up.
const QUEUE: usize = 1024;
/// Largest message that is read: routes of tens of thousands of apps.
const MESSAGE_BYTES: usize = 64 << 20;

/// How a link stands.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    up: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl LinkState {
    /// Not up yet.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            up: Arc::default(),
            stop,
        }
    }

    /// Whether the stream is open.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// No new stream from now on.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// What all links share.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) connector: Arc<Connector>,
    pub(super) events: mpsc::Sender<StreamEvent>,
    pub(super) routing: Routing,
    pub(super) metrics: LinkMetrics,
    pub(super) ids: Arc<AtomicU64>,
}

impl Link {
    /// Keeps a stream to `address` until it is stopped. A stream that is open then ends by itself, when nobody has anything to say any more.
    pub(super) async fn follow(self, address: SocketAddr, state: LinkState) {
        let mut pause = RETRY.0;
        let mut told = "";
        while !state.stop.is_cancelled() && !self.events.is_closed() {
            let started = Instant::now();
            match self.session(address, &state).await {
                Ok(()) => tracing::info!(%address, "stream to the scaler ended"),
                Err(error) => {
                    self.metrics.failed(error.category());
                    // A replica that is away is told of once, not once a second.
                    if told == error.category() {
                        tracing::debug!(%address, %error, "no stream to the scaler");
                    } else {
                        tracing::warn!(%address, category = error.category(), %error, "no stream to the scaler");
                    }
                    told = error.category();
                }
            }
            if started.elapsed() >= GOOD {
                pause = RETRY.0;
                told = "";
            }
            // Spread, so that front ends do not come back together.
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            state
                .stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn session(&self, address: SocketAddr, state: &LinkState) -> Result<(), FrontError> {
        let open = self.connector.connect(address);
        let Some(channel) = state.stop.run_until_cancelled(open).await else {
            return Ok(());
        };
        let mut client = SlotsClient::new(channel?).max_decoding_message_size(MESSAGE_BYTES);
        let (say, said) = mpsc::channel(16);
        let mut heard = timeout(ANSWER, client.join(ReceiverStream::new(said)))
            .await
            .map_err(|_| FrontError::Silent(ANSWER.as_secs()))?
            .map_err(Box::new)?
            .into_inner();

        let stream = StreamId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (to, outgoing) = mpsc::channel(QUEUE);
        if self
            .events
            .send(StreamEvent::Up { stream, to })
            .await
            .is_err()
        {
            return Ok(());
        }
        let _up = self.metrics.up(&state.up);
        let ended = self.relay(stream, outgoing, say, &mut heard).await;
        // Whether it is heard or not: a control task that is gone needs no news.
        self.events.send(StreamEvent::Down { stream }).await.ok();
        ended
    }

    async fn relay(
        &self,
        stream: StreamId,
        mut outgoing: mpsc::Receiver<ToDataRole>,
        say: mpsc::Sender<FromFrontEnd>,
        heard: &mut tonic::Streaming<FromDataRole>,
    ) -> Result<(), FrontError> {
        loop {
            tokio::select! {
                message = outgoing.recv() => match message {
                    // An error means that the stream has ended, which the other branch tells better.
                    Some(message) => say.send(wire::encode_from_front_end(&message)).await.unwrap_or_default(),
                    None => break,
                },
                message = heard.message() => match message.map_err(Box::new)? {
                    Some(message) => self.hear(stream, message).await?,
                    None => return Ok(()),
                },
            }
        }
        // The control task is done with this stream. What it said last has to arrive: the replica ends the stream after it.
        drop(say);
        let rest = async { while let Ok(Some(_)) = heard.message().await {} };
        timeout(ANSWER, rest).await.ok();
        Ok(())
    }

    async fn hear(&self, stream: StreamId, message: FromDataRole) -> Result<(), FrontError> {
        let epoch = Epoch(message.epoch);
        let start = wire::decode_start(&message);
        let heard = wire::decode_from_data_role(message)
            .map_err(|error| FrontError::Message(error.to_string()))?;
        match heard {
            Heard::Slots(message) => {
                let event = StreamEvent::Message { stream, message };
                // Gone at the end of the process only.
                self.events.send(event).await.ok();
                if let Some((uid, ages)) = start {
                    let event = StreamEvent::Started { stream, uid, ages };
                    self.events.send(event).await.ok();
                }
            }
            Heard::Routes(routes) => self.routing.apply(epoch, &routes),
        }
        Ok(())
    }
}
