//! Questions about usage: what is understood, and how each wrong part is named.

use super::*;

fn text(text: &str) -> Option<Moment> {
    Some(Moment::Text(text.to_owned()))
}

fn request() -> UsageRequest {
    UsageRequest {
        from: text("2024-09-01"),
        to: text("2024-10-01T00:00:00Z"),
        window: "PT1H".to_owned(),
        ..UsageRequest::default()
    }
}

fn parse(request: &UsageRequest) -> Result<UsageQuery, Problem> {
    request.parse(&Rules {
        store_window: WindowLength::HOUR,
        token_key: TokenKey::new([1; 16]),
        fields: FieldNames::HTTP,
    })
}

type Change = fn(&mut UsageRequest);

#[test]
fn what_is_left_out_means_all() {
    let query = parse(&request()).unwrap();
    assert_eq!(query.group_by, GroupBy::RESOURCE);
    assert_eq!(query.page_size, 50);
    assert_eq!(query.after, None);
    assert!(query.filter.tenant.is_none() && query.filter.product_sku.is_none());
    assert_eq!(query.filter.from.to_string(), "2024-09-01T00:00:00Z");
    assert_eq!(query.filter.to.to_string(), "2024-10-01T00:00:00Z");
}

#[test]
fn dates_mean_their_start_in_the_zone() {
    let mut request = request();
    request.time_zone = "America/Sao_Paulo".to_owned();
    request.to = text("2024-10-01T00:00:00-03:00");
    let query = parse(&request).unwrap();
    assert_eq!(query.filter.from.to_string(), "2024-09-01T03:00:00Z");
    assert_eq!(query.filter.to.to_string(), "2024-10-01T03:00:00Z");
}

#[test]
fn each_wrong_field_is_named_with_its_reason() {
    let cases: &[(Change, &str, &str, &str)] = &[
        (|r| r.tenant = "x".repeat(129), "tenant", reasons::NAME_TOO_LONG, "129"),
        (|r| r.product_sku = "a\u{7}".into(), "sku", reasons::NAME_CONTROL_CHARACTER, "control"),
        (|r| r.use_unity = "\u{85}".into(), "unit", reasons::NAME_CONTROL_CHARACTER, "control"),
        (|r| r.window.clear(), "window", reasons::WINDOW_INVALID, "needed"),
        (|r| r.window = "1h".into(), "window", reasons::WINDOW_INVALID, "PT1H"),
        (|r| r.window = "totl".into(), "window", reasons::WINDOW_INVALID, "did you mean total?"),
        (|r| r.from = None, "from", reasons::RANGE_INVALID, "needed"),
        (|r| r.to = None, "to", reasons::RANGE_INVALID, "needed"),
        (|r| r.from = text("yesterday"), "from", reasons::RANGE_INVALID, "an instant such as"),
        (|r| r.from = text("2024-09-01T00:00:00"), "from", reasons::RANGE_INVALID, "an instant"),
        (|r| r.from = text("2024-02-30"), "from", reasons::RANGE_INVALID, "an instant such as"),
        (
            |r| r.from = text("2024-09-01T00:30:00Z"),
            "from",
            reasons::RANGE_INVALID,
            "2024-09-01T00:00:00Z",
        ),
        (
            |r| r.from = text("2024-09-01T00:00:00.0000001Z"),
            "from",
            reasons::RANGE_INVALID,
            "an instant",
        ),
        (
            |r| r.from = Some(Moment::Parts { seconds: 0, nanos: 1 }),
            "from",
            reasons::RANGE_INVALID,
            "microseconds",
        ),
        (
            |r| r.from = Some(Moment::Parts { seconds: i64::MIN, nanos: 0 }),
            "from",
            reasons::RANGE_INVALID,
            "years 1 to 9999",
        ),
        (|r| r.to = r.from.clone(), "to", reasons::RANGE_INVALID, "not after from"),
        (|r| r.to = text("2024-08-01"), "to", reasons::RANGE_INVALID, "not after from"),
        (
            |r| r.time_zone = "Europe/Berln".into(),
            "time_zone",
            reasons::ZONE_UNKNOWN,
            "did you mean Europe/Berlin?",
        ),
        (|r| r.time_zone = "Etc/Unknown".into(), "time_zone", reasons::ZONE_UNKNOWN, "IANA"),
        (
            |r| {
                r.window = "P1D".into();
                r.time_zone = "Asia/Kolkata".into();
                r.from = text("2024-09-01T00:00:00Z");
            },
            "time_zone",
            reasons::ZONE_UNKNOWN,
            "ask for PT1H or total",
        ),
        (
            |r| r.group_by = vec!["sku".into()],
            "group_by[0]",
            reasons::GROUP_BY_INVALID,
            "product_sku",
        ),
        (
            |r| r.group_by = vec!["tenant".into(), "unit".into()],
            "group_by[1]",
            reasons::GROUP_BY_INVALID,
            "use_unity",
        ),
        (
            |r| r.group_by = vec!["tenants".into()],
            "group_by[0]",
            reasons::GROUP_BY_INVALID,
            "mean tenant?",
        ),
        (|r| r.group_by = vec![String::new()], "group_by[0]", reasons::GROUP_BY_INVALID, "empty"),
        (
            |r| r.group_by = vec!["d".repeat(65)],
            "group_by[0]",
            reasons::GROUP_BY_INVALID,
            "64 bytes",
        ),
        (
            |r| r.group_by = vec!["region".into(), "region".into()],
            "group_by[1]",
            reasons::GROUP_BY_INVALID,
            "twice",
        ),
        (
            |r| r.group_by = vec!["tenant".into(), "tenant".into()],
            "group_by[1]",
            reasons::GROUP_BY_INVALID,
            "twice",
        ),
        (|r| r.page_size = "0".into(), "page_size", reasons::PAGE_SIZE_INVALID, "1 to 1000"),
        (|r| r.page_size = "1001".into(), "page_size", reasons::PAGE_SIZE_INVALID, "1 to 1000"),
        (|r| r.page_size = "-1".into(), "page_size", reasons::PAGE_SIZE_INVALID, "1 to 1000"),
        (|r| r.page_size = "ten".into(), "page_size", reasons::PAGE_SIZE_INVALID, "1 to 1000"),
        (
            |r| r.page_token = "abc".into(),
            "page_token",
            reasons::PAGE_TOKEN_INVALID,
            "leave the token out",
        ),
    ];
    for (change, field, reason, said) in cases {
        let mut request = request();
        change(&mut request);
        let problem = parse(&request).unwrap_err();
        let [violation] = &problem.violations[..] else { panic!("one violation: {problem:?}") };
        assert_eq!((violation.field.as_str(), violation.reason), (*field, *reason), "{problem:?}");
        assert!(violation.message.contains(said), "{said:?} is not in {:?}", violation.message);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let request = UsageRequest {
        tenant: "\n".into(),
        window: "P1W".into(),
        time_zone: "Mars/Base".into(),
        page_size: "many".into(),
        group_by: vec!["tenant".into(), String::new()],
        ..request()
    };
    let problem = parse(&request).unwrap_err();
    let fields: Vec<_> = problem.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["tenant", "window", "group_by[1]", "time_zone", "page_size"]);
}

#[test]
fn a_dimension_called_like_a_field_has_a_way_in() {
    let mut request = request();
    request.group_by = vec!["tenant".into(), "dimensions.tenant".into(), "dimensions.sku".into()];
    let group_by = parse(&request).unwrap().group_by;
    assert!(group_by.tenant && !group_by.product_sku);
    assert_eq!(group_by.dimensions, KeptDimensions::Named(vec!["tenant".into(), "sku".into()]));
}

#[test]
fn a_token_is_bound_to_everything_but_the_page_size() {
    let first = parse(&request()).unwrap();
    let key = GroupKey {
        tenant: None,
        product_sku: None,
        use_unity: None,
        dimensions: domain::Dimensions::none(),
        window_start: first.filter.from,
    };
    let token = TokenKey::new([1; 16]).seal(first.fingerprint, &key.encode());
    let same: &[Change] = &[|_| {}, |r| r.page_size = "7".into(), |r| r.time_zone = "UTC".into()];
    for change in same {
        let mut request = request();
        request.page_token.clone_from(&token);
        change(&mut request);
        assert_eq!(parse(&request).unwrap().after.as_ref(), Some(&key));
    }
    let other: &[Change] = &[
        |r| r.tenant = "a".into(),
        |r| r.product_sku = "a".into(),
        |r| r.use_unity = "a".into(),
        |r| r.from = text("2024-09-02"),
        |r| r.to = text("2024-10-02"),
        |r| r.window = "P1D".into(),
        |r| r.group_by = vec!["tenant".into()],
        |r| {
            r.from = text("2024-09-01T00:00:00Z");
            r.time_zone = "Europe/Berlin".into();
        },
    ];
    for (at, change) in other.iter().enumerate() {
        let mut request = request();
        request.page_token.clone_from(&token);
        change(&mut request);
        let problem = parse(&request).unwrap_err();
        assert_eq!(problem.reason, reasons::PAGE_TOKEN_INVALID, "{at}");
    }
}
