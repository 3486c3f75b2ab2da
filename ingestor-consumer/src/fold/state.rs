//! Fold state: all that folding the next record depends on, and its stored form.
//!
//! Stored sorted, so that equal states have equal bytes; the manifest names their digest. The ids
//! are not in it: each segment leaves its own as a run.

use super::{
    backfills::Backfills,
    declarations::Declarations,
    delta::{Delta, state_before},
    ids::Ids,
    producers::Producers,
    wire::{
        BackfillWire, DeclarationWire, LandedWire, LimitsWire, ProducerWire, StateError, damaged,
        part,
    },
};
use domain::{FoldLimits, Offset, Timestamp, segment::Conservation};
use prost::{
    Message,
    encoding::{self, DecodeContext},
};

/// Everything that was learnt from the records so far.
#[derive(Debug)]
pub(crate) struct State {
    /// Greatest append time so far; `Timestamp::MIN` before the first record.
    pub(crate) eff_ts: Timestamp,
    /// What became of everything in closed segments.
    pub(crate) counts: Conservation,
    pub(crate) declarations: Declarations,
    pub(crate) producers: Producers,
    pub(crate) backfills: Backfills,
    pub(crate) ids: Ids,
    /// Behind the SEAL that ended the partition; no pulse from there on counts.
    pub(crate) sealed_at: Option<Offset>,
    pub(crate) limits: FoldLimits,
    pub(super) delta: Delta,
}

impl Default for State {
    fn default() -> Self {
        Self {
            eff_ts: Timestamp::MIN,
            counts: Conservation::default(),
            declarations: Declarations::default(),
            producers: Producers::default(),
            backfills: Backfills::default(),
            ids: Ids::default(),
            sealed_at: None,
            limits: FoldLimits::FIRST,
            delta: Delta::default(),
        }
    }
}

/// Where the partition had ended, as a stored state says. A delta is of one that had not.
///
/// # Errors
/// When the state does not parse.
pub fn sealed_at(state: &[u8]) -> Result<Option<Offset>, StateError> {
    if state_before(state).is_some() {
        return Ok(None);
    }
    Ok(parts(state, |_| Ok(()))?.sealed_at.map(Offset))
}

/// A part of the stored form, of which there may be hundreds of thousands.
enum Part {
    Declaration(DeclarationWire),
    Producer(ProducerWire),
    Backfill(BackfillWire),
}

/// Reads the stored form part by part, so that nothing but its bytes is held beside what is made of it.
fn parts(
    mut bytes: &[u8],
    mut take: impl FnMut(Part) -> Result<(), StateError>,
) -> Result<StateWire, StateError> {
    let mut rest = StateWire::default();
    while !bytes.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut bytes).map_err(StateError::unreadable)?;
        match tag {
            DECLARATION => take(Part::Declaration(part(wire_type, &mut bytes)?))?,
            PRODUCER => take(Part::Producer(part(wire_type, &mut bytes)?))?,
            BACKFILL => take(Part::Backfill(part(wire_type, &mut bytes)?))?,
            _ => rest
                .merge_field(tag, wire_type, &mut bytes, DecodeContext::default())
                .map_err(StateError::unreadable)?,
        }
    }
    Ok(rest)
}

impl State {
    /// Encodes all but the ids and what the manifest holds itself (time and counts), part by part.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sku, declaration) in &self.declarations.0 {
            let part = DeclarationWire::of(sku, declaration);
            encoding::message::encode(DECLARATION, &part, &mut bytes);
        }
        for (key, producer) in self.producers.iter() {
            let part = ProducerWire {
                scope: key.scope.clone(),
                producer_id: key.producer_id.to_vec(),
                floor: producer.floor,
                bucket: producer.bucket,
                landed: producer.landed.iter().map(LandedWire::from).collect(),
            };
            encoding::message::encode(PRODUCER, &part, &mut bytes);
        }
        for (key, backfill) in self.backfills.iter() {
            let part = BackfillWire {
                scope: key.scope.clone(),
                name: key.name.clone(),
                content_digest: backfill.content_digest.clone(),
                rows: backfill.rows.iter().flat_map(|(start, end)| [start, end]).collect(),
            };
            encoding::message::encode(BACKFILL, &part, &mut bytes);
        }
        let sealed_at = self.sealed_at.map(|end| end.0);
        StateWire { sealed_at, limits: Some(self.limits.into()) }.encode_raw(&mut bytes);
        bytes
    }

    /// Reads what [`State::encode`] wrote; time and counts come from its manifest.
    pub(super) fn decode_whole(
        bytes: &[u8],
        eff_ts: Timestamp,
        counts: Conservation,
    ) -> Result<Self, StateError> {
        let mut declarations = Vec::new();
        let mut producers = Vec::new();
        let mut backfills = Vec::new();
        let rest = parts(bytes, |part| {
            match part {
                Part::Declaration(declaration) => declarations.push(declaration.take()?),
                Part::Producer(producer) => producers.push(producer.take()?),
                Part::Backfill(backfill) => backfills.push(backfill.take()?),
            }
            Ok(())
        })?;
        let sealed_at = rest.sealed_at.map(Offset);
        let limits = rest.limits.map_or(Ok(FoldLimits::FIRST), LimitsWire::take)?;
        let mut state = Self { eff_ts, counts, sealed_at, limits, ..Self::default() };
        state.declarations.0.extend(ascending(declarations, "declarations")?);
        state.producers.extend(ascending(producers, "producers")?);
        state.backfills.extend(ascending(backfills, "backfills")?);
        Ok(state)
    }
}

/// What was stored sorted by its key, each key once.
fn ascending<K: Ord, V>(entries: Vec<(K, V)>, what: &str) -> Result<Vec<(K, V)>, StateError> {
    if entries.is_sorted_by(|(one, _), (next, _)| one < next) {
        Ok(entries)
    } else {
        Err(damaged(&format!("its {what} are not in order")))
    }
}

/// Tags of the repeated fields of [`StateWire`], which [`parts`] reads and [`State::encode`] writes.
const DECLARATION: u32 = 1;
const PRODUCER: u32 = 2;
const BACKFILL: u32 = 3;

#[derive(Clone, PartialEq, Message)]
struct StateWire {
    #[prost(uint64, optional, tag = "4")]
    sealed_at: Option<u64>,
    #[prost(message, optional, tag = "5")]
    limits: Option<LimitsWire>,
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            backfills::BackfillKey,
            declarations::Declaration,
            producers::{Landing, ProducerKey},
        },
        *,
    };

    /// The stored form as one message.
    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(message, repeated, tag = "1")]
        declarations: Vec<DeclarationWire>,
        #[prost(message, repeated, tag = "2")]
        producers: Vec<ProducerWire>,
        #[prost(message, repeated, tag = "3")]
        backfills: Vec<BackfillWire>,
        #[prost(uint64, optional, tag = "4")]
        sealed_at: Option<u64>,
        #[prost(message, optional, tag = "5")]
        limits: Option<LimitsWire>,
    }

    #[test]
    fn state_survives_encoding() {
        let mut state = State::default();
        let declaration =
            Declaration { version: 2, dimensions: vec!["zone".into(), "region".into()] };
        assert!(state.declarations.declare("vm", declaration.clone()));
        assert!(!state.declarations.declare("vm", declaration));
        let key = ProducerKey { scope: "s".into(), producer_id: [5; 16] };
        for (start, refused) in [(3, vec![0, 2]), (90, (0..40).step_by(2).collect())] {
            let batch = Landing { start, length: 80, digest: 5, refused: &refused };
            state.producers.land(&key, batch, (77, 1 << 20));
        }
        let key = BackfillKey { scope: String::new(), name: "old".into() };
        state.backfills.land(&key, b"digest", 1 << 20);
        for row in [0, 1, 2, 9] {
            state.backfills.row(&key, row, (1 << 20, 0));
        }
        state.limits.keys_per_tenant = 7;
        assert_eq!(sealed_at(&state.encode()), Ok(None));
        state.sealed_at = Some(Offset(0));
        let again = State::decode(&[state.encode()], state.eff_ts, state.counts).unwrap();
        assert_eq!(sealed_at(&state.encode()), Ok(Some(Offset(0))));
        assert_eq!(again.declarations, state.declarations);
        assert_eq!(again.producers, state.producers);
        assert_eq!(again.backfills, state.backfills);
        assert_eq!(again.limits, state.limits);
        assert_eq!(again.encode(), state.encode());
        let whole = Whole::decode(&state.encode()[..]).unwrap();
        assert_eq!((whole.producers.len(), whole.backfills.len()), (1, 1));
        assert_eq!(whole.encode_to_vec(), state.encode(), "its bytes have a digest in a manifest");
        assert!(State::decode(&[[0xff]], state.eff_ts, state.counts).is_err());
    }

    #[test]
    fn a_state_that_no_fold_writes_is_damage() {
        let landed = |start, length, refused: &[u32]| LandedWire {
            start,
            length,
            digest: 5,
            refused: refused.to_vec(),
            scattered: None,
        };
        let producer = |id: u8, landed: Vec<LandedWire>| ProducerWire {
            scope: String::new(),
            producer_id: vec![id; 16],
            floor: 0,
            bucket: 0,
            landed,
        };
        let producers = |producers| Whole { producers, ..Whole::default() };
        let of_one = |landed| producers(vec![producer(1, landed)]);
        let backfill = |rows| Whole {
            backfills: vec![BackfillWire { rows, ..BackfillWire::default() }],
            ..Whole::default()
        };
        let declaration = |sku: &str, dimensions: &[&str]| DeclarationWire {
            product_sku: sku.into(),
            version: 1,
            dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
        };
        let declared = |declarations| Whole { declarations, ..Whole::default() };
        let limits = LimitsWire { segment_bytes: 1, ..LimitsWire::from(FoldLimits::FIRST) };
        let cases = [
            (true, of_one(vec![landed(0, 8, &[0, 1, 3, 8]), landed(8, 1, &[])])),
            (false, of_one(vec![landed(0, u32::MAX, &[0])])),
            (false, of_one(vec![landed(0, 8, &[0, u32::MAX])])),
            (false, of_one(vec![landed(0, 8, &[2, 3, 3, 4])])),
            (false, of_one(vec![landed(0, 40, &Vec::from_iter(0..18))])),
            (false, of_one(vec![landed(0, 8, &[]), landed(7, 8, &[])])),
            (false, of_one((0..257).map(|start| landed(start, 1, &[])).collect())),
            (false, producers(vec![producer(2, Vec::new()), producer(1, Vec::new())])),
            (false, producers(vec![producer(1, Vec::new()), producer(1, Vec::new())])),
            (true, backfill(vec![0, 4, 5, u64::MAX])),
            (false, backfill(vec![0, 4, 5])),
            (false, backfill(vec![4, 0])),
            (true, declared(vec![declaration("a", &["x", "y"]), declaration("b", &[])])),
            (false, declared(vec![declaration("a", &["y", "x"])])),
            (false, declared(vec![declaration("b", &[]), declaration("a", &[])])),
            (false, Whole { limits: Some(limits), ..Whole::default() }),
        ];
        for (is_whole, wire) in cases {
            let bytes = wire.encode_to_vec();
            let state = State::decode(&[bytes], Timestamp::EPOCH, Conservation::NONE);
            assert_eq!(state.is_ok(), is_whole, "{wire:?}: {state:?}");
        }
    }
}
