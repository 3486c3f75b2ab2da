//! Page tokens: text that clients send back.

use edge::paging::TokenKey;
use query_api::usage::group::GroupKey;

const QUESTION: u128 = 7;

/// Only what was sealed opens, for its own question; a position is written as it was read.
pub(super) fn check(bytes: &[u8]) {
    let key = TokenKey::new(*b"key of the fuzz!");
    if let Ok(token) = std::str::from_utf8(bytes) {
        // A forger without the key has a chance of 1 in 2^128.
        assert_eq!(key.open(QUESTION, token), None);
        check_damage(&key, token);
    }
    let token = key.seal(QUESTION, bytes);
    assert_eq!(key.open(QUESTION, &token).as_deref(), Some(bytes));
    assert_eq!(key.open(QUESTION + 1, &token), None);
    assert_eq!(TokenKey::new([0; 16]).open(QUESTION, &token), None);
    if let Some(position) = GroupKey::decode(bytes) {
        assert_eq!(position.encode(), bytes);
    }
}

/// A token with a piece of other text in it does not open.
fn check_damage(key: &TokenKey, text: &str) {
    let sealed = key.seal(QUESTION, b"a position");
    let at = text.len() % sealed.len();
    let damaged: String = sealed.chars().take(at).chain(text.chars()).collect();
    if damaged != sealed {
        assert_eq!(key.open(QUESTION, &damaged), None, "{damaged}");
    }
    let longer = format!("{sealed}{text}");
    if longer != sealed {
        assert_eq!(key.open(QUESTION, &longer), None, "{longer}");
    }
}
