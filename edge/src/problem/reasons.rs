//! Reasons: the one table of words that say why something was refused.
//!
//! The words are part of the interface: programs branch on them, so none is renamed or reused.
//! `docs/errors.md` publishes the table; a test keeps the two equal.

use domain::name::NameError;

macro_rules! reasons {
    ($($name:ident $meaning:literal,)*) => {
        $(
            #[doc = $meaning]
            pub const $name: &str = stringify!($name);
        )*

        /// Every reason with its meaning, in the order of `docs/errors.md`.
        pub const TABLE: &[(&str, &str)] = &[$((stringify!($name), $meaning),)*];
    };
}

reasons! {
    ORIGIN_FORBIDDEN "A page of another origin may not do this without a credential of its own.",
    KEY_NOT_FOUND "No API key has this id.",
    KEYS_OFF "No credentials are asked for here, so API keys are not managed here.",
    CREDENTIAL_MISSING "The request has no credential, and the method needs one.",
    CREDENTIAL_INVALID "The credential is not one of this server's, or is damaged.",
    CREDENTIAL_EXPIRED "The credential has expired, or is not valid yet.",
    CREDENTIAL_REVOKED "The credential was revoked.",
    LOGIN_FAILED "Nobody was logged in; the login may be begun again.",
    ISSUER_UNAVAILABLE "The issuer of tokens does not answer as it should; try again later.",
    ROLE_MISSING "The credential has none of the roles that may call the method.",
    TENANT_FORBIDDEN "The credential is not for the tenant.",
    RATE_LIMITED "The credential, or the client's address, makes more requests per second than it may; send the same again after the given wait.",
    QUOTA_EXCEEDED "The client has as many streams open, or sends as many bytes per second, as it may; send the same again after the given wait.",
    TENANT_MISSING "Neither the pulse nor the credential names a tenant.",
    TENANT_MISMATCH "The pulse names another tenant than the credential allows.",
    NAME_EMPTY "A name is empty; 1 to 128 bytes are needed.",
    NAME_TOO_LONG "A name is longer than 128 bytes.",
    NAME_NOT_UTF8 "A text is not valid UTF-8.",
    NAME_CONTROL_CHARACTER "A name contains a control character.",
    NAME_NOT_PLAIN "A name begins or ends with a blank, holds an invisible character or a blank that is not U+0020, or is not in Unicode normal form C.",
    AMOUNT_MISSING "The pulse has no used_amount.",
    AMOUNT_SCALE "The amount has more than 18 decimals.",
    AMOUNT_OUT_OF_RANGE "The amount is beyond what a quantity can hold.",
    AMOUNT_NOT_A_NUMBER "The amount is not a decimal number.",
    NEGATIVE_REFUSED "The amount is negative and this SKU forbids that.",
    TIME_MISSING "The pulse has an identity but no time, so a retry could not be told from new usage.",
    TIME_OUT_OF_RANGE "The time is not a moment of the years 1 to 9998.",
    TIME_INVALID "The time is not RFC 3339 with a zone.",
    ID_TOO_LONG "An id or source is longer than 128 bytes.",
    PROPERTIES_TOO_MANY "The pulse has more than 64 properties.",
    PROPERTY_INVALID "A property's key or value is too long, empty or not printable.",
    PULSE_UNDECODABLE "The bytes of a pulse are not an encoding of the message.",
    PULSE_TOO_LARGE "A pulse has more bytes than the server takes.",
    BATCH_UNDECODABLE "The bytes of a batch are not an encoding of the message.",
    BATCH_EMPTY "The batch has no pulses.",
    BATCH_TOO_LARGE "The batch has too many pulses or bytes; split it.",
    PRODUCER_ID_INVALID "The producer_id is not 16 bytes.",
    IDENTITY_AMBIGUOUS "The batch has two kinds of identity; at most one is allowed.",
    BACKFILL_INVALID "The backfill's name or content digest is missing or too long.",
    SEQUENCE_OVERFLOW "The sequences of the batch run past the greatest 64-bit number.",
    LOG_OVERLOADED "The log's queue is full; nothing was taken; send the same again after the given wait.",
    LOG_UNAVAILABLE "The log takes no records now; nothing was taken; send the same again later.",
    OUTCOME_UNKNOWN "It is not known whether it was done; send the same again, unchanged.",
    SHUTTING_DOWN "The server is shutting down and takes no more work.",
    ROW_MALFORMED "A row of a file is not what its format asks for.",
    ROW_CELLS "A row has more or fewer cells than the header.",
    ROW_TOO_LONG "A row of a file is longer than 1 MiB.",
    FIELD_UNKNOWN "A field of a row is none of ours.",
    FIELD_REPEATED "A field of a row is given twice, perhaps under two of its names.",
    FIELD_TYPE "A field of a row has another JSON type than it should have.",
    REQUEST_UNDECODABLE "The bytes of a call are not one framed encoding of its message.",
    REQUEST_TOO_LARGE "The call's message is larger than the server takes.",
    REQUEST_TIMEOUT "The bytes of a request did not come in time.",
    CLIENT_GONE "The client went away before its call began; nothing was changed. Only the audit trail says it.",
    COMPRESSION_UNSUPPORTED "The request is compressed; the server takes requests as they are only.",
    TLS_REQUIRED "The port speaks TLS only; use https://.",
    SERVER_BUSY "The server has as many calls or bytes of requests in hand as it allows; send the same again after the given wait.",
    STREAMS_EXHAUSTED "The server, or the client's address, has as many streams open as it allows.",
    COMPUTE_EXHAUSTED "The server works on as many calls that compute as it allows; nothing was done; ask again after the given wait.",
    CATALOGUE_INVALID "The catalogue has mistakes or fails its own tests.",
    CATALOGUE_EXISTS "Another catalogue is published under this version; versions never change.",
    CATALOGUE_ABOUT_THE_PAST "The catalogue takes effect in the past, and the request does not say that it may.",
    CATALOGUE_NOT_FOUND "No catalogue is published, or none under this version.",
    PERIOD_INVALID "The billing period is not a month such as 2024-09.",
    CONTRACT_INVALID "The contract has mistakes.",
    CONTRACT_EXISTS "Another contract was applied under this name; contracts never change.",
    CONTRACT_CONFLICTS "The contract does not go with those of the tenant before it.",
    CONTRACT_NOT_FOUND "No contract was applied under this name.",
    PERIOD_NOT_DUE "The billing period has not come, or is not over.",
    TENANT_UNKNOWN "Nobody knows the tenant: it has no usage, no contract and no invoice.",
    RUN_NOT_FOUND "There is no billing run of this number.",
    RUN_ENDED "The billing run has ended.",
    INVOICE_NOT_FOUND "There is no invoice of this number, or no such line.",
    INVOICE_STATE "The invoice is not in a state for that.",
    CREDIT_EXISTS "A credit note gives back the same for the same reason; another one needs a request id of its own.",
    REQUEST_ID_USED "The request id was used for another request.",
    MESSAGE_NOT_FOUND "There is no message of this number in the outbox.",
    REJECTION_NOT_FOUND "No rejection of a message has this number.",
    PDF_UNAVAILABLE "The server was built without PDF, or the invoice is too long or holds what cannot be typeset.",
    BILLING_UNREADABLE "What billing has stored does not come out as it was; the message says what.",
    RANGE_INVALID "The time range is empty, reversed, unreadable or not on window edges.",
    WINDOW_INVALID "The window is not one of PT1H, P1D, P1M and total.",
    WINDOWS_TOO_LONG "A day, a billing period or a range begins or ends inside a window of the log, whose usage cannot be told apart.",
    ZONE_UNKNOWN "The time zone is not in the IANA database, or its days do not start on a window edge.",
    GROUP_BY_INVALID "A name to group by is neither a field nor a declared dimension.",
    PAGE_SIZE_INVALID "The page size is not 1 to 1000.",
    PAGE_TOKEN_INVALID "The page token is damaged or belongs to another query.",
    RESULT_TOO_LARGE "The answer would have more groups, or take longer, than the server allows; narrow the query. Or a document would have more lines.",
    PARAMETER_UNKNOWN "A parameter of this name does not exist.",
    PARAMETER_INVALID "A parameter's value is missing, repeated or not what it should be.",
    DEAD_LETTER_NOT_FOUND "No dead letter stands at this place.",
    LOG_NOT_READABLE "The log has not got the record any more or yet, or this server does not read the log.",
    ROUTE_NOT_FOUND "Nothing is served under this path.",
    METHOD_NOT_ALLOWED "The path does not take this method.",
    NOT_ACCEPTABLE "The answer has none of the media types asked for.",
    BODY_TOO_LARGE "The request's body is larger than the server allows.",
    STORE_UNAVAILABLE "The store does not answer now; try again later.",
    INTERNAL "A fault of the server; report it with the request id.",
}

/// The reason for text that is not a name.
#[must_use]
pub const fn of_name(error: NameError) -> &'static str {
    match error {
        NameError::Empty => NAME_EMPTY,
        NameError::TooLong(_) => NAME_TOO_LONG,
        NameError::NotUtf8 => NAME_NOT_UTF8,
        NameError::Control => NAME_CONTROL_CHARACTER,
        NameError::EdgeBlank
        | NameError::Blank(_)
        | NameError::Invisible(_)
        | NameError::NotNormal => NAME_NOT_PLAIN,
    }
}

/// The meaning of a reason, or `None` for a word that is not in the table.
#[must_use]
pub fn meaning(reason: &str) -> Option<&'static str> {
    TABLE.iter().find(|(word, _)| *word == reason).map(|(_, meaning)| *meaning)
}
