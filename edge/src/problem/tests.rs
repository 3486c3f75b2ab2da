//! Problems over gRPC and HTTP say the same.

use tonic::Status;
use tonic_types::StatusExt;

use super::*;

/// All codes, in the order of their numbers.
fn codes() -> impl Iterator<Item = Code> {
    (0..=16).map(Code::from_i32)
}

/// The name of a code as the gRPC specification spells it: `InvalidArgument` is INVALID_ARGUMENT.
fn upper_snake(code: Code) -> String {
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

#[test]
fn the_published_table_is_the_table() {
    let mut expected = String::from("| reason | meaning |\n| --- | --- |\n");
    for (reason, meaning) in reasons::TABLE {
        expected += &format!("| `{reason}` | {meaning} |\n");
    }
    let mut codes_table = String::from("| gRPC | number | HTTP |\n| --- | --- | --- |\n");
    for code in codes().skip(1) {
        let (name, number) = (upper_snake(code), code as i32);
        codes_table += &format!("| `{name}` | {number} | {} |\n", http::status_of(code, ""));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let published = std::fs::read_to_string(path).unwrap();
    for table in [expected, codes_table] {
        let end = format!("\n{table}\n");
        assert!(format!("{published}\n").contains(&end), "docs/errors.md must hold:\n{table}");
    }
}

#[test]
fn reasons_are_unique_upper_snake_words_with_a_sentence() {
    for (place, (reason, meaning)) in reasons::TABLE.iter().enumerate() {
        let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(reason.bytes().all(legal), "{reason}");
        assert!(meaning.ends_with('.') && !meaning.contains(['|', '\n']), "{reason}: {meaning}");
        assert!(reasons::TABLE[..place].iter().all(|(other, _)| other != reason), "{reason}");
    }
}

#[test]
fn a_problem_travels_by_grpc_with_reason_violations_and_wait() {
    let problem = Problem::check(vec![
        Violation::new("pulses[3].used_amount", reasons::AMOUNT_SCALE, "scale 19, at most 18"),
        Violation::new("pulses[4].tenant", reasons::NAME_EMPTY, "give it 1 to 128 bytes"),
    ]);
    let wait = Duration::from_millis(250);
    let status = Status::from(problem.unwrap_err().with_retry_after(wait));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason_of(&status).as_deref(), Some("AMOUNT_SCALE"));
    assert_eq!(retry_after_of(&status), Some(wait));
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[1].field, "pulses[4].tenant");
    assert_eq!(violations[1].reason, "NAME_EMPTY");
    assert_eq!(
        explain(&status),
        "pulses[3].used_amount: scale 19, at most 18 (and 1 more) [AMOUNT_SCALE]\n  \
         pulses[3].used_amount: scale 19, at most 18 [AMOUNT_SCALE]\n  \
         pulses[4].tenant: give it 1 to 128 bytes [NAME_EMPTY]\n  \
         try again after 250 ms"
    );
    let alone = Problem::invalid("tenant", reasons::NAME_EMPTY, "give it 1 to 128 bytes");
    assert_eq!(
        explain(&Status::from(alone)),
        "tenant: give it 1 to 128 bytes [NAME_EMPTY]",
        "said once"
    );
}

#[test]
fn nothing_wrong_is_no_problem() {
    assert_eq!(Problem::check(Vec::new()), Ok(()));
}

#[test]
fn a_status_of_many_or_long_violations_fits_into_trailers_and_says_what_is_missing() {
    for (count, words) in
        [(1_000, "wrong"), (40, "ü".repeat(5_000).as_str()), (1, &"x".repeat(9_000))]
    {
        let violation =
            |index| Violation::new(format!("pulses[{index}].tenant"), reasons::NAME_EMPTY, words);
        let problem = Problem::check((0..count).map(violation).collect()).unwrap_err();
        let status = Status::from(problem);
        let listed = status.get_details_bad_request().unwrap().field_violations.len();
        assert!(listed >= 1);
        let note = format!("(the first {listed} of {count} are listed)");
        assert_eq!(status.message().contains(&note), listed < count, "{}", status.message());
        let headers = status.into_http::<()>().headers().clone();
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8 * 1_024, "{count} violations make {bytes} bytes of trailers");
    }
}

#[test]
fn a_foreign_status_is_explained_without_letting_it_write_to_the_terminal() {
    let status = Status::new(Code::Unavailable, "gone\u{1b}[2J\nagain");
    assert_eq!(explain(&status), "gone\\u{1b}[2J\\nagain");
    assert_eq!(explain(&Status::new(Code::NotFound, "")), Code::NotFound.description());
    assert_eq!(reason_of(&status), None);
    let mut unreachable = Status::new(Code::Unavailable, "transport error");
    unreachable.set_source(std::sync::Arc::new(std::io::Error::other("connection refused")));
    assert_eq!(explain(&unreachable), "transport error: connection refused");
}

#[test]
fn over_http_a_problem_is_an_rfc_9457_document() {
    let problem = Problem::invalid("window", reasons::WINDOW_INVALID, "`P1W` is not a window")
        .with_retry_after(Duration::from_millis(1_200));
    let document = ProblemJson::new(problem, Some("7f3c"));
    assert_eq!(document.retry_after_seconds, Some(2));
    assert_eq!(
        String::from_utf8(document.to_bytes()).unwrap(),
        concat!(
            r#"{"type":"urn:pulso:reason:WINDOW_INVALID","#,
            r#""title":"The window is not one of PT1H, P1D, P1M and total.","#,
            r#""status":400,"detail":"window: `P1W` is not a window","#,
            r#""instance":"urn:pulso:request:7f3c","reason":"WINDOW_INVALID","#,
            r#""violations":[{"field":"window","reason":"WINDOW_INVALID","#,
            r#""message":"`P1W` is not a window"}]}"#
        )
    );
}

#[test]
fn reasons_that_exist_only_over_http_have_a_status_of_their_own() {
    for (reason, code, status) in [
        (reasons::ROUTE_NOT_FOUND, Code::NotFound, 404),
        (reasons::METHOD_NOT_ALLOWED, Code::Unimplemented, 405),
        (reasons::NOT_ACCEPTABLE, Code::InvalidArgument, 406),
        (reasons::BODY_TOO_LARGE, Code::InvalidArgument, 413),
        (reasons::LOG_OVERLOADED, Code::ResourceExhausted, 429),
        (reasons::SHUTTING_DOWN, Code::Unavailable, 503),
    ] {
        assert_eq!(ProblemJson::new(Problem::new(code, reason, "so"), None).status, status);
    }
}
