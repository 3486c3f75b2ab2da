//! Budget: room that is taken before work starts and given back by dropping what was taken.
//!
//! A budget is shared by all, and each peer address has at most a share of it, so that one client
//! cannot take what the others need.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whose share is taken: an IPv4 address, or the first 64 bits of an IPv6 address, because one
/// customer of a network commonly has all addresses below those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer behind an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }
}

impl Default for Peer {
    /// Stands for all peers whose address is not known.
    fn default() -> Self {
        Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Full {
    /// The peer has its share.
    Peer,
    /// All of it is taken.
    All,
}

/// A number of units, shared by all who take from it. Fair: who waits is served in order. Clones
/// share one.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    units: Arc<Semaphore>,
    per_peer: usize,
    peers: Mutex<Peers>,
    taken: TakenGauge,
}

/// Shows how many units are out.
#[derive(Clone)]
struct TakenGauge(Gauge);

impl std::fmt::Debug for TakenGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauge")
    }
}

/// The shares in use. Those nobody uses any longer are removed when their number has doubled, so
/// there are never more than twice as many as peers that hold something, and 64.
#[derive(Debug)]
struct Peers {
    shares: HashMap<Peer, Weak<Semaphore>>,
    sweep_at: usize,
}

const PEERS_MIN: usize = 64;

/// One peer's part of a budget. Clones share one.
#[derive(Clone, Debug)]
pub struct Share {
    shared: Arc<Shared>,
    own: Arc<Semaphore>,
}

/// Taken units. They go back when it is dropped.
#[derive(Debug)]
pub struct Held {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
    taken: TakenGauge,
}

impl Budget {
    /// A budget of so many units, of which one peer may have at most `per_peer`. `taken` shows how
    /// many are out.
    #[must_use]
    pub fn new(units: usize, per_peer: usize, taken: Gauge) -> Self {
        let shared = Shared {
            units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            per_peer: per_peer.min(Semaphore::MAX_PERMITS),
            peers: Mutex::new(Peers { shares: HashMap::new(), sweep_at: PEERS_MIN }),
            taken: TakenGauge(taken),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The part of one peer.
    #[must_use]
    pub fn share(&self, peer: Peer) -> Share {
        // Holds whole entries only, so it is sound whoever panicked.
        let mut peers = self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = peers.shares.get(&peer).and_then(Weak::upgrade).unwrap_or_else(|| {
            let own = Arc::new(Semaphore::new(self.shared.per_peer));
            peers.insert(peer, &own);
            own
        });
        Share { shared: Arc::clone(&self.shared), own }
    }
}

impl Peers {
    fn insert(&mut self, peer: Peer, own: &Arc<Semaphore>) {
        if self.shares.len() >= self.sweep_at {
            self.shares.retain(|_, share| share.strong_count() > 0);
            self.sweep_at = (self.shares.len() * 2).max(PEERS_MIN);
        }
        self.shares.insert(peer, Arc::downgrade(own));
    }
}

impl Share {
    /// Takes units at once.
    ///
    /// # Errors
    /// Which of the two bounds leaves too few; nothing was taken.
    pub fn try_take(&self, units: u32) -> Result<Held, Full> {
        let own = Arc::clone(&self.own).try_acquire_many_owned(units).map_err(|_| Full::Peer)?;
        let all = Arc::clone(&self.shared.units).try_acquire_many_owned(units);
        Ok(self.held(own, all.map_err(|_| Full::All)?))
    }

    /// Takes units, waiting for them. Waits for ever for more than a peer may have.
    pub async fn take(&self, units: u32) -> Held {
        const OPEN: &str = "the semaphore is never closed";
        // The peer's own first: one that waits for its share holds nothing of the others'.
        let own = Arc::clone(&self.own).acquire_many_owned(units).await.expect(OPEN);
        let all = Arc::clone(&self.shared.units).acquire_many_owned(units).await.expect(OPEN);
        self.held(own, all)
    }

    fn held(&self, own: OwnedSemaphorePermit, all: OwnedSemaphorePermit) -> Held {
        let taken = self.shared.taken.clone();
        taken.0.increment(all.num_permits() as f64);
        Held { own, all, taken }
    }
}

impl Held {
    /// Number of units.
    #[must_use]
    pub fn units(&self) -> usize {
        self.all.num_permits()
    }

    /// Adds what was taken from the same share.
    ///
    /// # Panics
    /// When it is of another share.
    pub fn merge(&mut self, mut other: Self) {
        let units = other.units();
        // Moved out, so that nothing is left for the other's drop to give back.
        let (own, all) = other.own.split(units).zip(other.all.split(units)).expect("all of it");
        self.own.merge(own);
        self.all.merge(all);
    }

    /// Takes a part off, or `None` when it has fewer units.
    pub fn split(&mut self, units: usize) -> Option<Self> {
        let (own, all) = self.own.split(units).zip(self.all.split(units))?;
        Some(Self { own, all, taken: self.taken.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken.0.decrement(self.units() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(IpAddr::from([10, 0, 0, last]))
    }

    fn budget(units: usize, per_peer: usize) -> Budget {
        Budget::new(units, per_peer, Gauge::noop())
    }

    #[test]
    fn a_peer_gets_its_share_and_all_get_the_whole() {
        let budget = budget(10, 6);
        let (one, other) = (budget.share(peer(1)), budget.share(peer(2)));
        let held = one.try_take(6).unwrap();
        assert_eq!(one.try_take(1).err(), Some(Full::Peer), "also through another handle:");
        assert_eq!(budget.share(peer(1)).try_take(1).err(), Some(Full::Peer));
        let rest = other.try_take(4).unwrap();
        assert_eq!(other.try_take(1).err(), Some(Full::All));
        drop(held);
        // What the failed tries took of one bound went back as well.
        assert!(other.try_take(2).is_ok());
        drop(rest);
        assert!(other.try_take(6).is_ok());
    }

    #[test]
    fn parts_add_up_and_go_back_once() {
        let budget = budget(10, 10);
        let share = budget.share(peer(1));
        let mut held = share.try_take(4).unwrap();
        held.merge(share.try_take(3).unwrap());
        assert_eq!(held.units(), 7);
        let part = held.split(5).unwrap();
        assert!(held.split(3).is_none());
        assert_eq!((held.units(), part.units()), (2, 5));
        assert_eq!(share.try_take(4).err(), Some(Full::Peer));
        drop(part);
        drop(held);
        assert!(share.try_take(10).is_ok());
    }

    #[tokio::test]
    async fn one_that_waits_for_its_own_share_holds_nothing_of_the_others() {
        let budget = budget(10, 6);
        let one = budget.share(peer(1));
        let held = one.try_take(6).unwrap();
        let waiting = tokio::spawn({
            let one = one.clone();
            async move { one.take(6).await.units() }
        });
        tokio::task::yield_now().await;
        assert!(budget.share(peer(2)).try_take(4).is_ok());
        drop(held);
        assert_eq!(waiting.await.unwrap(), 6);
    }

    #[test]
    fn peers_that_hold_nothing_are_forgotten() {
        let budget = budget(10, 6);
        let held = budget.share(peer(1)).try_take(6).unwrap();
        for last in 0..=u16::MAX {
            let [high, low] = last.to_be_bytes();
            drop(budget.share(Peer::of(IpAddr::from([10, 1, high, low]))));
        }
        let known = budget.shared.peers.lock().unwrap().shares.len();
        assert!(known <= PEERS_MIN, "{known} peers are remembered");
        assert_eq!(budget.share(peer(1)).try_take(1).err(), Some(Full::Peer));
        drop(held);
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let of = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
