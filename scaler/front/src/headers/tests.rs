use std::net::{IpAddr, Ipv4Addr};

use super::*;

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn sent(pairs: &[(&str, &str)], forwarding: Forwarding) -> HeaderMap {
    let mut headers = map(pairs);
    let origin = Origin {
        peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        scheme: Scheme::Https,
    };
    outgoing(
        &mut headers,
        &HeaderValue::from_static("app.example"),
        origin,
        forwarding,
    );
    headers
}

#[test]
fn nothing_that_the_host_trusts_gets_in() {
    let sent = sent(
        &[
            ("WAS-DEFAULT-HOSTNAME", "evil:1"),
            ("x-arr-log-id", "evil"),
            ("X-MS-Site-Token", "evil"),
            ("x-ms-site-restricted-token", "evil"),
            ("x-ms-client-principal", "evil"),
            ("x-ms-client-principal-id", "evil"),
            ("x_ms_client_principal", "evil"),
            ("x-ms-client-principalx", "kept"),
            ("x-ms-version", "kept"),
        ],
        Forwarding::Replace,
    );
    assert!(sent.values().all(|value| value != "evil"), "{sent:?}");
    assert_eq!(sent.values().filter(|value| *value == "kept").count(), 2);
    assert!(sent.contains_key("x-arr-log-id"));
}

#[test]
fn connection_headers_end_here() {
    let sent = sent(
        &[
            ("connection", "x-one, Keep-Alive, content-length"),
            ("x-one", "gone"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("proxy-authorization", "secret"),
            ("content-length", "3"),
            ("x-two", "kept"),
        ],
        Forwarding::Replace,
    );
    for name in [
        "connection",
        "x-one",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
    ] {
        assert!(!sent.contains_key(name), "{name}");
    }
    assert_eq!(
        (&sent["te"], &sent["x-two"], &sent["content-length"]),
        (
            &"trailers".parse().unwrap(),
            &"kept".parse().unwrap(),
            &"3".parse().unwrap()
        )
    );
}

#[test]
fn upgrades_pass_except_cleartext_http2() {
    let socket = sent(
        &[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ],
        Forwarding::Replace,
    );
    assert_eq!(
        (&socket["connection"], &socket["upgrade"]),
        (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
    );
    let http2 = sent(
        &[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
        ],
        Forwarding::Replace,
    );
    assert!(!http2.contains_key("upgrade") && !http2.contains_key("connection"));
}

#[test]
fn forwarding_headers_are_replaced_or_extended() {
    let client = [
        ("x-forwarded-for", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil"),
    ];
    let replaced = sent(&client, Forwarding::Replace);
    assert_eq!(replaced["x-forwarded-for"], "10.0.0.7");
    assert_eq!(
        replaced["forwarded"],
        "for=10.0.0.7;host=\"app.example\";proto=https"
    );
    assert_eq!(
        (
            &replaced["x-forwarded-proto"],
            &replaced["x-forwarded-host"]
        ),
        (&"https".parse().unwrap(), &"app.example".parse().unwrap())
    );
    let appended = sent(&client, Forwarding::Append);
    assert_eq!(appended["x-forwarded-for"], "1.1.1.1, 10.0.0.7");
    assert_eq!(appended["x-forwarded-proto"], "http");
}

#[test]
fn traces_and_ids_are_kept_when_valid_and_made_otherwise() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let kept = sent(
        &[("traceparent", parent), ("x-request-id", "abc")],
        Forwarding::Replace,
    );
    assert_eq!(
        (&kept["traceparent"], &kept["x-request-id"]),
        (&parent.parse().unwrap(), &"abc".parse().unwrap())
    );
    for bad in [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "zz",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let made = sent(
            &[("traceparent", bad), ("x-request-id", "a b")],
            Forwarding::Replace,
        );
        assert!(valid_traceparent(made["traceparent"].as_bytes()) && made["traceparent"] != bad);
        assert_eq!(made["x-request-id"].len(), 32);
    }
}

#[test]
fn the_client_is_named_with_and_without_brackets() {
    let mapped = "::ffff:10.0.0.7".parse().unwrap();
    let long = "2001:db8::7".parse().unwrap();
    for (peer, named, plain) in [
        (mapped, "for=10.0.0.7;", "10.0.0.7"),
        (long, "for=\"[2001:db8::7]\";", "2001:db8::7"),
    ] {
        let mut headers = HeaderMap::new();
        let origin = Origin {
            peer,
            scheme: Scheme::Http,
        };
        let host = HeaderValue::from_static("a");
        outgoing(&mut headers, &host, origin, Forwarding::Replace);
        assert_eq!(headers["x-forwarded-for"], plain);
        let forwarded = headers["forwarded"].to_str().unwrap();
        assert_eq!(forwarded, format!("{named}host=\"a\";proto=http"));
    }
}

#[test]
fn a_new_trace_has_the_id_of_the_request() {
    let sent = sent(&[], Forwarding::Replace);
    let parent = sent["traceparent"].to_str().unwrap();
    let id = sent["x-request-id"].to_str().unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(parent[..36], format!("00-{id}-"));
    assert_eq!(sent["x-arr-log-id"], id);
    assert_eq!(parent[52..], *"-00");
}
