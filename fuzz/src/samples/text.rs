//! Samples of text: files of prices and of usage, configuration, expressions.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use pulso::config::{KEYS, write::default_file};

/// Bytes of contracts in the corpus. They are by far the most that there is.
const CONTRACT_BYTES_MAX: usize = 90 << 10;

/// Files of a folder of the repository, by name.
fn files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let entries = fs::read_dir(root.join(folder)).expect("a folder of the repository");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("text"))
    };
    paths.into_iter().map(read).collect()
}

/// The cases that rating is tested by.
pub(super) fn catalogues() -> Vec<(String, Vec<u8>)> {
    let cases = files("pricing/tests/cases").into_iter();
    cases.map(|(name, text)| (name, text.into_bytes())).collect()
}

/// Catalogue and first contract of the cases that invoices are tested by, while they bring lines that
/// are new: many cases differ in their usage alone.
pub(super) fn contracts() -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    let mut samples = Vec::new();
    for (name, text) in files("pricing/tests/invoices") {
        let mut sections = text.split("\n=== ");
        let mut section = |head: &str| sections.find_map(|section| section.strip_prefix(head));
        let (Some(catalogue), Some(contract)) = (section("catalogue\n"), section("contract\n"))
        else {
            continue;
        };
        let keys = contract.lines().map(|line| line.split(':').next().unwrap_or(line).to_owned());
        let new = keys.filter(|key| seen.insert(key.clone())).count();
        let sample = format!("{catalogue}\n=== contract\n{contract}").into_bytes();
        if new > 0 && bytes + sample.len() <= CONTRACT_BYTES_MAX {
            bytes += sample.len();
            samples.push((name, sample));
        }
    }
    samples
}

/// Catalogue, first contract and first amendment of the cases that invoices are tested by.
pub(super) fn amendments() -> Vec<(String, Vec<u8>)> {
    let sample = |(name, text): (String, String)| {
        let mut sections = text.split("\n=== ");
        let mut section = |head: &str| sections.find_map(|section| section.strip_prefix(head));
        let (catalogue, contract) = (section("catalogue\n")?, section("contract\n")?);
        let amendment = section("amendment\n")?;
        let sample = format!("{catalogue}\n=== contract\n{contract}\n=== amendment\n{amendment}");
        Some((name, sample.into_bytes()))
    };
    files("pricing/tests/invoices").into_iter().filter_map(sample).collect()
}

/// The file of defaults with every key in effect, and small ones.
pub(super) fn config_files() -> Vec<Vec<u8>> {
    let defaults: Vec<&str> = default_file().leak().lines().collect();
    let in_effect: Vec<&str> =
        defaults.iter().copied().filter(|line| !line.starts_with('#')).collect();
    let small = "data_dir = \"d\"\n[listen]\ngrpc = \"127.0.0.1:0\"\nhttp = \"[::1]:80\"\n\
                 [log]\nurl = \"kafka://a:1,b:2\"\n[store]\nurl = \"scylla://u:p@h:9042?keyspace=k\"\n";
    let odd = "log.partitions = 0x10\nconsumer = {schedule = \"0 0 * * * *\"}\nunknown = [1]\n";
    vec![in_effect.join("\n").into_bytes(), small.into(), odd.into()]
}

pub(super) fn environments() -> Vec<Vec<u8>> {
    let all: Vec<String> =
        KEYS.iter().map(|key| format!("{}={}", key.variable(), key.default)).collect();
    let odd = "PULSO_LOG=debug\nPULSO_LOG__URL=file:x\nPULSO_LOGS=1\nHOME=/root\n";
    vec![all.join("\n").into_bytes(), odd.into()]
}

pub(super) fn expressions() -> Vec<Vec<u8>> {
    let expressions = [
        "0 0 * * * *",
        "0 30 2 * * MON-FRI",
        "*/7 1-5,9 0 L * ?",
        "59 59 23 29 2 *",
        "0 0 0 31 4 *",
        "0 0 12 15W * 5#2",
        "0 0 0 29 2 MON",
        "@yearly",
        "@hourly",
        "0 0 0 LW 1/3 SUN#L",
    ];
    expressions.map(|text| text.as_bytes().to_vec()).into()
}

pub(super) fn json_lines() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"tenant":"a","product_sku":"s","use_unity":"h","used_amount":"12.50","time":"2024-09-18T22:00:00Z","id":"1","source":"x","properties":{"region":"br","cores":4,"spot":true,"none":null}}"#,
        r#"{"customer_id":"a","event_name":"s","unit":"h","used_amount":2.0E-7,"timestamp":"1969-12-31T23:59:59.75-03:00","transaction_id":7}"#,
        r#"{"used_amount":1,"tenant":"a","subject":"b"}"#,
        r#"{"used_amount":1,"tenat":"a"}"#,
        r#"{"used_amount":"1","properties":{"a":[]}}"#,
        "[1]",
    ];
    let all = lines.join("\r\n\n");
    lines[..4].iter().map(|line| line.as_bytes().to_vec()).chain([all.into_bytes()]).collect()
}

pub(super) fn csv() -> Vec<Vec<u8>> {
    let whole = "customer_id,product_sku,unit,used_amount,timestamp,id,properties.region\r\n\
                 a,s,h,1.5,2024-09-18T22:00:00Z,7,br\r\n\
                 a,s,h,\r\n\
                 a,\"s,\n2\"\"\",h,2,2024-09-18T22:00:00Z,,\r\n\
                 a,s,h,1,18/09/2024,,\r\n";
    let small = "product_sku,use_unity,used_amount,time\ns,h,1,2024-09-18T22:00:00Z\n";
    vec![whole.into(), small.into()]
}

pub(super) fn cloud_events() -> Vec<Vec<u8>> {
    let event = r#"{"specversion":"1.0","id":"1","source":"x","subject":"a","type":"s","time":"2024-09-18T22:00:00Z","region":"br","data":{"used_amount":"1.5","use_unity":"h","cores":4,"properties":{"zone":"a"}}}"#;
    let other = r#"{"specversion":"0.3","data":[]}"#;
    let lines = format!("{event}\n{other}\n");
    let list = format!("[{event},\n{other}, 7]");
    vec![lines.into(), list.into(), event.into()]
}

/// The header of the sample and rows of each provider, in the columns that are read and in all.
pub(super) fn focus() -> Vec<Vec<u8>> {
    let sample = files("samples").into_iter().find(|(name, _)| name.starts_with("focus"));
    let (_, text) = sample.expect("the sample");
    let lines: Vec<&str> = text.lines().collect();
    let rows = |from: usize, count: usize| {
        let chosen = lines.iter().skip(from).step_by(97).take(count).copied();
        let all: Vec<&str> = lines[..1].iter().copied().chain(chosen).collect();
        (all.join("\n") + "\n").into_bytes()
    };
    let columns = "SubAccountId,SkuId,SkuPriceId,ChargePeriodStart,BillingPeriodStart,BillingCurrency,\
                   ListUnitPrice,ListCost,PricingQuantity,PricingUnit,ConsumedQuantity,ConsumedUnit,Id,RegionId";
    let row = "a,s,s.1,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.0000004,0.0000008,2.0,Requests,2,Requests,7,se1";
    let few =
        format!("{columns}\n{row}\n{}\n{}\n", row.replace("s.1", "NULL"), row.replace("2.0", ""));
    vec![rows(1, 4), rows(500, 2), few.into_bytes()]
}

pub(super) fn claims() -> Vec<Vec<u8>> {
    let claims = r#"{"iss":"i","aud":"a","sub":"meter","exp":1767229200,"nbf":0,"roles":["viewer"],"tenants":["acme"]}"#;
    let all =
        r#"{"iss":"i","aud":["a","b"],"sub":"m","exp":1767229200.5,"role":"admin","tenants":"*"}"#;
    let header = r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt"}"#;
    vec![claims.into(), all.into(), header.into(), "e30.e30.AAAA".into()]
}

pub(super) fn key_sets() -> Vec<Vec<u8>> {
    let ed = r#"{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let ec = r#"{"kty":"EC","crv":"P-256","alg":"ES256","kid":"b","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let rsa =
        format!(r#"{{"kty":"RSA","key_ops":["verify"],"n":"{}","e":"AQAB"}}"#, "v".repeat(342));
    let weak = r#"{"kty":"RSA","n":"v_v_","e":"AQAB"},{"kty":"oct","k":"AAAA"}"#;
    vec![
        format!(r#"{{"keys":[{ed},{ec},{rsa}]}}"#).into(),
        format!(r#"{{"keys":[{weak},{ed}]}}"#).into(),
        r#"{"keys":[]}"#.into(),
    ]
}

pub(super) fn access_texts() -> Vec<Vec<u8>> {
    let key = format!("pulso_0123456789abcdef_{}82f2dcfe", "a5".repeat(32));
    let body = format!("0123456789abcdef_{}", "5a".repeat(32));
    let name = "uri:spiffe://example.org/meter";
    let session = "A".repeat(64);
    let others = [
        &*body,
        "https://app.example",
        "http://[::1]:9",
        "2026-01/17",
        name,
        "http://127.0.0.1/k?a",
        &session,
    ];
    [key].into_iter().chain(others.map(str::to_owned)).map(String::into_bytes).collect()
}
