//! Laws of [`domain::Outlet`].

use domain::{
    Outlet,
    outlet::{Message, OutletError, OutletWriter as _},
};

use super::Subject;

/// Messages with these numbers, of three tenants in turn.
fn messages(numbers: std::ops::RangeInclusive<u64>) -> Vec<Message> {
    let message = |number| Message {
        number,
        key: format!("tenant-{}", number % 3),
        body: format!("{{\"n\":{number}}}").into_bytes(),
    };
    numbers.map(message).collect()
}

/// The newest message is the one with the greatest number, whatever its key, and none is 0.
pub async fn the_newest_message_is_the_last_of_the_last_batch<P: Outlet>(
    subject: &impl Subject<Port = P>,
) {
    let outlet = subject.fresh().await;
    assert_eq!(outlet.newest().await, Ok(0));
    let mut writer = outlet.take_over().await.unwrap();
    assert_eq!(outlet.newest().await, Ok(0), "taking it over writes nothing");
    for numbers in [1..=1, 2..=40, 41..=42] {
        let last = *numbers.end();
        writer.append(messages(numbers)).await.unwrap();
        assert_eq!(outlet.newest().await, Ok(last));
    }
    let outlet = subject.reopen(outlet).await;
    assert_eq!(outlet.newest().await, Ok(42));
}

/// Of two writers, the one that took over later may append, and the other appends nothing.
pub async fn who_takes_over_ends_every_other_writer<P: Outlet>(subject: &impl Subject<Port = P>) {
    let outlet = subject.fresh().await;
    let mut first = outlet.take_over().await.unwrap();
    first.append(messages(1..=5)).await.unwrap();
    let mut second = outlet.take_over().await.unwrap();
    let fenced = first.append(messages(6..=9)).await;
    assert_eq!(fenced, Err(OutletError::TakenOver));
    assert_eq!(outlet.newest().await, Ok(5), "nothing of it is there");
    second.append(messages(6..=6)).await.unwrap();
    assert_eq!(outlet.newest().await, Ok(6));
}
