//! Framed bodies: what is counted when, who waits, and who is cut.

use std::{collections::VecDeque, future::poll_fn};

use metrics::Gauge;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::{
    listen::budget::{Budget, Peer},
    problem::reason_of,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A body whose chunks the test sends.
struct Chunks(mpsc::UnboundedReceiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A framed message of so many bytes.
fn frame(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    [&[0], &length[..], &vec![7; bytes]].concat()
}

struct Call {
    body: Framed<Chunks>,
    room: Room,
    client: mpsc::UnboundedSender<Bytes>,
    budget: Budget,
}

/// A call with a budget of 100 bytes, 60 of them for its peer.
fn call(change: impl FnOnce(&mut Counting)) -> Call {
    let budget = Budget::new(100, 60, Gauge::noop());
    let mut counting = Counting {
        share: budget.share(Peer::default()),
        message_bytes_max: 50,
        message_timeout: TIMEOUT,
        when_full: WhenFull::Wait,
        handover: Handover::Split,
        quiet: Quiet::Honest,
        pace: None,
    };
    change(&mut counting);
    let (client, chunks) = mpsc::unbounded_channel();
    let (body, room) = Framed::new(Chunks(chunks), counting);
    Call { body, room, client, budget }
}

impl Call {
    fn send(&self, bytes: impl Into<Bytes>) {
        self.client.send(bytes.into()).unwrap();
    }

    /// What passes now, or `None` while nothing does.
    async fn passes(&mut self) -> Option<Result<usize, Status>> {
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut self.body).poll_frame(context)));
        // Without tokio's own budget, at whose end everything is pending for a moment.
        match tokio::task::coop::unconstrained(polled).await {
            Poll::Pending => None,
            Poll::Ready(frame) => {
                Some(frame.expect("open").map(|frame| frame.into_data().unwrap().len()))
            }
        }
    }

    fn left(&self) -> usize {
        let share = self.budget.share(Peer::default());
        (0..=60).rev().find(|units| share.try_take(*units).is_ok()).unwrap() as usize
    }
}

#[tokio::test]
async fn a_message_is_counted_from_its_head_on_and_until_its_owner_drops_it() {
    let mut call = call(|_| {});
    // Its head alone, in two chunks, and not a byte of it.
    let head = frame(40)[..5].to_vec();
    call.send(head[..3].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 3);
    assert_eq!(call.left(), 60, "its length is not known yet");
    call.send(head[3..].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 2);
    assert_eq!(call.left(), 20);
    call.send(vec![7; 40]);
    assert_eq!(call.passes().await.unwrap().unwrap(), 40);
    let message = call.room.split(40);
    assert_eq!(call.left(), 20, "counted once, by whoever has it");
    drop(message);
    assert_eq!(call.left(), 60);
}

#[tokio::test]
async fn a_call_that_ends_in_the_middle_gives_its_room_back() {
    let mut call = call(|_| {});
    call.send(frame(40)[..10].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 10);
    let Call { body, room, budget, .. } = call;
    drop((body, room));
    assert!(budget.share(Peer::default()).try_take(60).is_ok());
}

#[tokio::test]
async fn what_has_no_room_waits_and_what_is_before_it_passes() {
    let mut call = call(|_| {});
    // 30 and 31 are one more than the peer may have.
    call.send([frame(30), frame(31)].concat());
    assert_eq!(call.passes().await.unwrap().unwrap(), 35, "the first");
    assert!(call.passes().await.is_none(), "the second has no room");
    drop(call.room.split(30));
    assert_eq!(call.passes().await.unwrap().unwrap(), 36, "it has now");
    assert_eq!(call.left(), 29);
    // A head across two chunks, without room for its message.
    call.send(frame(30)[..4].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 4);
    call.send(frame(30)[4..].to_vec());
    assert!(call.passes().await.is_none());
    drop(call.room.split(31));
    assert_eq!(call.passes().await.unwrap().unwrap(), 31);
    drop(call.room.split(30));
    call.send([frame(30), frame(30)].concat());
    assert_eq!(call.passes().await.unwrap().unwrap(), 70, "exactly what the peer may have");
}

#[tokio::test]
async fn a_refusing_call_ends_where_there_is_no_room() {
    let refusal = Problem::overloaded(Duration::from_millis(1));
    let mut call = call(|counting| counting.when_full = WhenFull::Refuse(refusal));
    let _others = call.budget.share(Peer::default()).try_take(31).unwrap();
    call.send(frame(30)[..5].to_vec());
    let status = call.passes().await.unwrap().unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::LOG_OVERLOADED));
}

#[tokio::test]
async fn a_message_above_the_limit_passes_uncounted_for_the_library_to_refuse() {
    for (bytes, counted) in [(50, 50), (51, 0)] {
        let mut call = call(|_| {});
        call.send(frame(bytes)[..5].to_vec());
        assert_eq!(call.passes().await.unwrap().unwrap(), 5);
        assert_eq!(call.left(), 60 - counted, "{bytes}");
    }
}

#[tokio::test]
async fn room_until_the_next_message_is_of_one_at_a_time() {
    let mut call = call(|counting| counting.handover = Handover::Next);
    for _ in 0..10 {
        call.send(frame(30));
        assert_eq!(call.passes().await.unwrap().unwrap(), 35);
        assert_eq!(call.left(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_drips_is_cut_and_a_stream_that_is_quiet_is_not() {
    let mut call = call(|_| {});
    tokio::time::sleep(TIMEOUT * 100).await;
    assert!(call.passes().await.is_none(), "quiet before the first message");
    call.send(frame(10));
    assert_eq!(call.passes().await.unwrap().unwrap(), 15);
    assert!(call.passes().await.is_none());
    tokio::time::sleep(TIMEOUT * 100).await;
    assert!(call.passes().await.is_none(), "quiet between messages");
    // One byte each fifth of what is allowed in all.
    call.send(frame(20)[..5].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 5);
    for _ in 0..4 {
        assert!(call.passes().await.is_none());
        tokio::time::sleep(TIMEOUT / 5).await;
        call.send(vec![7]);
        assert_eq!(call.passes().await.unwrap().unwrap(), 1);
    }
    assert!(call.passes().await.is_none());
    tokio::time::sleep(TIMEOUT / 5 - Duration::from_millis(2)).await;
    assert!(call.passes().await.is_none(), "not yet");
    tokio::time::sleep(Duration::from_millis(4)).await;
    let status = call.passes().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::REQUEST_TIMEOUT));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_server_takes_is_not_the_clients() {
    let mut call = call(|_| {});
    call.send(frame(20)[..6].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 6);
    assert!(call.passes().await.is_none());
    // Its owner does not read, whatever comes.
    call.room.pause();
    tokio::time::sleep(TIMEOUT * 10).await;
    call.send(vec![7]);
    assert_eq!(call.passes().await.unwrap().unwrap(), 1);
    assert!(call.passes().await.is_none(), "all of its time is left");
    tokio::time::sleep(TIMEOUT - Duration::from_millis(2)).await;
    assert!(call.passes().await.is_none());
    // Waiting for room does not count either.
    call.send(vec![7; 18]);
    assert_eq!(call.passes().await.unwrap().unwrap(), 18);
    let others = call.budget.share(Peer::default()).try_take(40).unwrap();
    call.send(frame(30)[..6].to_vec());
    assert!(call.passes().await.is_none());
    tokio::time::sleep(TIMEOUT * 10).await;
    assert!(call.passes().await.is_none());
    drop((others, call.room.split(20)));
    assert_eq!(call.passes().await.unwrap().unwrap(), 6);
    assert!(call.passes().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_of_one_message_may_not_be_quiet_nor_buy_time_with_more_messages() {
    let mut silent = call(|counting| counting.quiet = Quiet::Counted);
    assert!(silent.passes().await.is_none());
    tokio::time::sleep(TIMEOUT + Duration::from_millis(2)).await;
    assert_eq!(silent.passes().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    let mut chatty = call(|counting| {
        counting.quiet = Quiet::Counted;
        counting.handover = Handover::Next;
    });
    for _ in 0..10 {
        assert!(chatty.passes().await.is_none());
        tokio::time::sleep(TIMEOUT / 10 + Duration::from_millis(2)).await;
        chatty.send(frame(1));
        assert_eq!(chatty.passes().await.unwrap().unwrap(), 6);
    }
    assert_eq!(chatty.passes().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
}

proptest! {
    /// However messages are cut into chunks, the same bytes pass, and the room that is held at the
    /// end is that of the messages.
    #[test]
    fn chunks_change_nothing(
        messages in prop::collection::vec(0_usize..=50, 0..20),
        cuts in prop::collection::vec(1_usize..=64, 1..20),
    ) {
        let sent: Vec<u8> = messages.iter().flat_map(|bytes| frame(*bytes)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (passed, taken) = runtime.block_on(async {
            let mut call = call(|_| {});
            let mut rest = &sent[..];
            for bytes in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, behind) = rest.split_at((*bytes).min(rest.len()));
                call.send(chunk.to_vec());
                rest = behind;
            }
            let (mut passed, mut whole, mut taken) = (0, VecDeque::from(messages.clone()), 0);
            loop {
                match call.passes().await {
                    Some(bytes) => passed += bytes.unwrap(),
                    // The owner takes what has come whole, and that makes room.
                    None if passed < sent.len() => {
                        let bytes = whole.pop_front().expect("a message is complete");
                        drop(call.room.split(bytes));
                        taken += bytes;
                    }
                    None => break,
                }
            }
            (passed, taken + (60 - call.left()))
        });
        prop_assert_eq!(passed, sent.len());
        prop_assert_eq!(taken, messages.iter().sum::<usize>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ahead_of_its_rate_is_read_later_and_that_is_not_its_client_being_slow() {
    let pace = Pace::new(std::num::NonZeroU64::new(10).unwrap());
    let mut call = call(|counting| {
        counting.pace = Some(pace.clone());
        counting.message_timeout = Duration::from_secs(1);
    });
    // A message in two chunks, the second beyond a second's bytes: the wait is in its middle.
    let message = frame(40);
    call.send(message[..30].to_vec());
    call.send(message[30..].to_vec());
    assert_eq!(call.passes().await.unwrap().unwrap(), 30);
    let start = tokio::time::Instant::now();
    assert!(call.passes().await.is_none(), "it is ahead by two seconds");
    let next = poll_fn(|context| Pin::new(&mut call.body).poll_frame(context)).await;
    assert_eq!(next.unwrap().unwrap().into_data().unwrap().len(), 15);
    assert_eq!(start.elapsed().as_secs(), 2);
    // The other calls of the client are held as well.
    assert_eq!(pace.wait().as_millis(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn a_call_ahead_of_its_rate_is_refused_by_its_length() {
    let pace = Pace::new(std::num::NonZeroU64::new(2_000).unwrap());
    for (bytes, reason) in [(1_024, None), (1_025, Some(reasons::QUOTA_EXCEEDED))] {
        let mut call = call(|counting| {
            let budget = Budget::new(10_000, 10_000, Gauge::noop());
            counting.share = budget.share(Peer::default());
            counting.message_bytes_max = 2_000;
            counting.quiet = Quiet::Counted;
            counting.pace = Some(pace.clone());
        });
        pace.count(2_000);
        call.send(frame(bytes));
        let found = call.passes().await.unwrap().err().and_then(|status| reason_of(&status));
        assert_eq!(found.as_deref(), reason, "{bytes}");
    }
}
