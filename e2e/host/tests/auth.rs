//! Who may do what: every row of the recorded matrix, over a real port.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use function_host_standin::auth;
use serde_json::{Value, json};
use support::{KEY, SITE, recipe_c, recorded, seconds_since_1970, start};

const MASTER: &str = "master-key";
const FUNCTION: &str = "function-key";

/// The header that each row of the recorded matrix stands for.
fn credential(row: &str) -> Option<(&'static str, String)> {
    let own = format!("https://{SITE}.azurewebsites.net");
    let now = seconds_since_1970();
    let claims =
        |iss: &str, aud: &str, exp: i64| json!({ "iss": iss, "aud": aud, "exp": now + exp });
    let key = auth::key_bytes(KEY).unwrap();
    let token = |claims: Value| auth::sign(&key, &claims);
    let site = |claims: Value| Some(("x-ms-site-token", token(claims)));
    match row {
        "none" => None,
        "x-functions-key: master" => Some(("x-functions-key", MASTER.to_owned())),
        "x-functions-key: host function key" => Some(("x-functions-key", FUNCTION.to_owned())),
        "x-functions-key: wrong" => Some(("x-functions-key", "wrong".to_owned())),
        "Bearer iss=core aud=site" => Some((
            "authorization",
            format!("Bearer {}", token(claims(auth::CORE_ISSUER, &own, 300))),
        )),
        "x-ms-site-token iss=core aud=site" => site(claims(auth::CORE_ISSUER, &own, 300)),
        "x-ms-site-token iss=site aud=site" => site(claims(&own, &own, 300)),
        "x-ms-site-token iss=scm aud=site" => site(claims(
            &format!("https://{SITE}.scm.azurewebsites.net"),
            &own,
            300,
        )),
        "x-ms-site-token aud=site/azurefunctions" => {
            site(claims(&own, &format!("{own}/azurefunctions"), 300))
        }
        "x-ms-site-token iss=other" => site(claims("https://other.azurewebsites.net", &own, 300)),
        "x-ms-site-token aud=core (as in sync request)" => {
            site(claims(&own, auth::CORE_ISSUER, 300))
        }
        "x-ms-site-token aud=other" => site(claims(&own, "https://other.azurewebsites.net", 300)),
        "x-ms-site-token no iss" => site(json!({ "aud": own, "exp": now + 300 })),
        "x-ms-site-token no aud" => site(json!({ "iss": own, "exp": now + 300 })),
        "x-ms-site-token no exp" => site(json!({ "iss": own, "aud": own })),
        "x-ms-site-token expired 60s" => site(claims(&own, &own, -60)),
        "x-ms-site-token expired 290s" => site(claims(&own, &own, -290)),
        "x-ms-site-token expired 310s" => site(claims(&own, &own, -310)),
        "x-ms-site-token exp in 1 year" => site(claims(&own, &own, 31_536_000)),
        "x-ms-site-token aud upper-case" => site(claims(&own, &own.to_uppercase(), 300)),
        "x-ms-site-token iss+aud trailing slash" => {
            site(claims(&format!("{own}/"), &format!("{own}/"), 300))
        }
        "x-ms-site-token key=UTF8 of hex text" => Some((
            "x-ms-site-token",
            auth::sign(KEY.as_bytes(), &claims(&own, &own, 300)),
        )),
        "x-ms-site-token wrong key" => Some((
            "x-ms-site-token",
            auth::sign(&[7; 32], &claims(&own, &own, 300)),
        )),
        "x-ms-site-restricted-token SWT (3 parts)"
        | "x-ms-site-restricted-token SWT (2 parts)"
        | "x-ms-site-restricted-token expired" => {
            Some(("x-ms-site-restricted-token", "exp.hmac.sig".to_owned()))
        }
        "x-ms-site-token SWT" => Some(("x-ms-site-token", "exp.hmac.sig".to_owned())),
        other => panic!("the recording has a row that this test does not know: {other}"),
    }
}

#[tokio::test]
async fn vectors_auth_matrix() {
    let environment = recipe_c(&[])
        .with("STANDIN_MASTER_KEY", MASTER)
        .with("STANDIN_FUNCTION_KEY", FUNCTION);
    let (instance, client) = start(environment).await;
    let recorded = recorded("auth-matrix.json");
    let mut checked = 0;
    for (row, answers) in recorded["matrix"].as_object().unwrap() {
        let credential = credential(row);
        let headers: Vec<(&str, &str)> = credential
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        for (request, status) in answers.as_object().unwrap() {
            let (method, path) = request.split_once(' ').unwrap();
            let answer = client.send(method, path, &headers).await.unwrap();
            assert_eq!(
                u64::from(answer.status),
                status.as_u64().unwrap(),
                "{row}: {request}"
            );
            if answer.status == 401 && path.starts_with("/admin") {
                assert_eq!(
                    answer.headers["www-authenticate"], "Bearer",
                    "{row}: {request}"
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 200, "the matrix was read");
    let status = "/admin/host/status?code=";
    assert_eq!(client.get(&format!("{status}{MASTER}")).await.status, 200);
    assert_eq!(client.get(&format!("{status}{FUNCTION}")).await.status, 403);
    instance.terminate().await;
}
