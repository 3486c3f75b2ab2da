//! Examples of the reads' answers, for their description. A test holds each against its schema.

use serde_json::{Value, json};

pub(super) fn usage() -> Value {
    json!({
        "rows": [{
            "tenant": "acme",
            "product_sku": "vm.standard",
            "use_unity": "hour",
            "dimensions": {"region": "eu-1"},
            "window_start": "2024-09-01T00:00:00Z",
            "window_end": "2024-09-02T00:00:00Z",
            "count": "12",
            "sum": "20.5",
            "min": "0.5",
            "max": "4",
            "last": "1.25",
        }],
        "freshness": {
            "as_of": "2024-09-02T08:00:00Z",
            "complete_until": "2024-09-02T07:00:00Z",
        },
        "next_page_token": "",
    })
}

pub(super) const USAGE_CSV: &str = "\
tenant,product_sku,use_unity,dimensions,window_start,window_end,count,sum,min,max,last\r
acme,vm.standard,hour,\"{\"\"region\"\":\"\"eu-1\"\"}\",2024-09-01T00:00:00Z,2024-09-02T00:00:00Z,12,20.5,0.5,4,1.25\r
";

pub(super) fn status() -> Value {
    json!({
        "healthy": true,
        "partitions": [{
            "generation": 1,
            "partition": 0,
            "log_end": "1042",
            "folded_to": "1042",
            "lag_records": "0",
            "folded_time": "2024-09-02T08:00:00Z",
        }],
        "pulses": {
            "read": "5210",
            "control": "3",
            "accepted": "5200",
            "duplicate": "4",
            "late": "2",
            "dead_lettered": "1",
            "erased": "0",
        },
        "versions": {"pulso": "0.1.0"},
        "problems": [],
    })
}

pub(super) fn dead_letters() -> Value {
    let mut group = letter();
    group["segment_start"] = "0".into();
    json!({"entries": [group], "next_page_token": ""})
}

pub(super) fn dead_letter() -> Value {
    let mut letter = letter();
    letter["payload"] = "CgRhY21l".into();
    letter
}

fn letter() -> Value {
    json!({
        "partition": 0,
        "offset": "42",
        "index": 0,
        "reason": "too_late",
        "tenant": "acme",
        "product_sku": "vm.standard",
        "time": "2024-08-01T10:00:00Z",
        "message": "the event time is before the horizon",
        "count": "1",
        "offset_last": "42",
        "time_first": "2024-08-01T10:00:00Z",
        "time_last": "2024-08-01T10:00:00Z",
    })
}
