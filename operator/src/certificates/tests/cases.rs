//! What may be wrong with the Secrets, and what is done about it.

use super::handshake::{comes_together, shake};
use super::world::{AUTHORITY, Mounted, World, days, settings};
use crate::certificates::Error;
use crate::certificates::found::{CA, CERTIFICATE, KEY};
use crate::certificates::settings::Side;
use crate::certificates::settle::settle;
use jiff::SignedDuration;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

const FRONT: &str = "maniple-front-slots";
const SCALER: &str = "maniple-scaler-slots";

#[tokio::test]
async fn a_first_installation_gets_a_ca_and_a_certificate_for_each_side() {
    let world = World::new();
    assert_eq!(
        world.done().await,
        [("authority", false), ("front", false), ("scaler", false)]
    );
    comes_together(&world);
    for side in Side::ALL {
        let secret = world.side(side).unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        let labels = secret.metadata.labels.unwrap();
        assert!(!labels.contains_key("app.kubernetes.io/instance"));
        let data = secret.data.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), [CA, CERTIFICATE, KEY]);
    }
    // Nothing is written at rest.
    let writes = world.writes();
    assert!(world.settle().await.is_empty());
    world.pass(days(1));
    assert!(world.settle().await.is_empty());
    assert_eq!(world.writes(), writes);
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_side_only() {
    let world = World::new();
    world.settle().await;
    let (front, scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
    assert!(shake(&scaler, &scaler, world.time()).is_err());
    assert!(shake(&front, &front, world.time()).is_err());
    for (mounted, client) in [(&front, true), (&scaler, false)] {
        let der = CertificateDer::from_pem_slice(&mounted.certificate).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((usage.client_auth, usage.server_auth), (client, !client));
    }
}

#[tokio::test]
async fn whatever_is_broken_is_made_anew_and_the_rest_stays() {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    for name in [FRONT, SCALER] {
        let certificate = if name == FRONT { "front" } else { "scaler" };
        for key in [CERTIFICATE, KEY] {
            for broken in [
                "",
                "no PEM",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ] {
                let world = World::new();
                world.settle().await;
                let authority = world.get(AUTHORITY);
                world.edit(name, |data| drop(data.insert(key.to_owned(), text(broken))));
                assert_eq!(
                    world.done().await,
                    [(certificate, true)],
                    "{name} {key} {broken}"
                );
                assert_eq!(world.get(AUTHORITY), authority);
                comes_together(&world);
            }
        }
        // A Secret that is gone, or empty, or holds what belongs to the other side.
        let world = World::new();
        world.settle().await;
        world.delete(name);
        assert_eq!(world.done().await, [(certificate, false)]);
        comes_together(&world);
        world.edit(name, BTreeMap::clear);
        assert_eq!(world.done().await, [(certificate, true)]);
        comes_together(&world);
        let other = if name == FRONT {
            Side::Scaler
        } else {
            Side::Front
        };
        let other = world.side(other).unwrap().data.unwrap();
        world.edit(name, |data| *data = other);
        assert_eq!(world.done().await, [(certificate, true)]);
        comes_together(&world);
    }
}

#[tokio::test]
async fn a_ca_that_somebody_added_is_taken_out_and_one_that_was_taken_out_comes_back() {
    let world = World::new();
    world.settle().await;
    let rogue = foreign();
    for broken in [rogue.pem(), String::new(), String::from("no PEM")] {
        let good = world.pod(Side::Scaler);
        world.edit(SCALER, |data| {
            data.insert(CA.to_owned(), ByteString(broken.into_bytes()));
        });
        assert_eq!(world.done().await, [("scaler", false)]);
        assert_eq!(world.pod(Side::Scaler), good);
    }
    // Also one whose certificate is in the Secret: others do not trust it.
    world.edit(SCALER, |data| *data = signed_by(&rogue));
    let done = world.done().await;
    assert_eq!(done, [("scaler", true)]);
    comes_together(&world);
}

#[tokio::test]
async fn without_its_key_the_ca_is_replaced_and_what_it_signed_stays_good_meanwhile() {
    for broken in [Some("no key"), None] {
        let world = World::new();
        world.settle().await;
        let (front, scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
        match broken {
            Some(text) => world.edit(AUTHORITY, |data| {
                data.insert(KEY.to_owned(), ByteString(text.as_bytes().to_vec()));
            }),
            None => world.delete(AUTHORITY),
        }
        // A new CA, which both sides are told of before it signs anything.
        assert_eq!(
            world.done().await,
            [
                ("authority", broken.is_some()),
                ("front", false),
                ("scaler", false)
            ]
        );
        let (told_front, told_scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
        assert_eq!(told_front.certificate, front.certificate);
        assert_eq!(told_scaler.certificate, scaler.certificate);
        assert_ne!(told_front.trusted, front.trusted);
        // Pods that have seen the change and pods that have not come together in every mixture.
        for a in [&front, &told_front] {
            for b in [&scaler, &told_scaler] {
                shake(a, b, world.time()).unwrap();
            }
        }
        world.pass(SignedDuration::from_mins(61));
        assert_eq!(world.done().await, [("front", false), ("scaler", false)]);
        let (new_front, new_scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
        for a in [&told_front, &new_front] {
            for b in [&told_scaler, &new_scaler] {
                shake(a, b, world.time()).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_a_ca_without_a_key_signed_stays_good_also_when_nobody_else_names_that_ca() {
    let world = World::new();
    world.settle().await;
    let before = (world.pod(Side::Front), world.pod(Side::Scaler));
    world.edit(AUTHORITY, |data| drop(data.remove(KEY)));
    for name in [FRONT, SCALER] {
        world.edit(name, |data| drop(data.remove(CA)));
    }
    world.settle().await;
    let told = (world.pod(Side::Front), world.pod(Side::Scaler));
    assert_eq!(told.0.certificate, before.0.certificate);
    for front in [&before.0, &told.0] {
        for scaler in [&before.1, &told.1] {
            shake(front, scaler, world.time()).unwrap();
        }
    }
}

#[tokio::test]
async fn secrets_that_helm_made_are_taken_over_without_a_break() {
    let world = World::new();
    let helm = foreign();
    for name in [FRONT, SCALER] {
        world.edit(name, |data| *data = signed_by(&helm));
        world.label(name, "app.kubernetes.io/instance", "maniple");
        world.label(name, "team", "platform");
    }
    let (old_front, old_scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
    shake(&old_front, &old_scaler, world.time()).unwrap();
    world.settle().await;
    let (told_front, told_scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
    for a in [&old_front, &told_front] {
        for b in [&old_scaler, &told_scaler] {
            shake(a, b, world.time()).unwrap();
        }
    }
    world.pass(SignedDuration::from_mins(61));
    world.settle().await;
    let (front, scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
    assert_ne!(front.certificate, old_front.certificate);
    for a in [&told_front, &front] {
        for b in [&told_scaler, &scaler] {
            shake(a, b, world.time()).unwrap();
        }
    }
    // No release and no tool removes them any more; what people added stays.
    for side in Side::ALL {
        let labels = world.side(side).unwrap().metadata.labels.unwrap();
        assert!(!labels.contains_key("app.kubernetes.io/instance"));
        assert_eq!(labels["team"], "platform");
    }
    // In the end the old CA is forgotten.
    world.pass(days(91));
    world.settle().await;
    let forgotten = Mounted {
        certificate: old_front.certificate,
        key: old_front.key,
        trusted: world.pod(Side::Front).trusted,
    };
    assert!(shake(&forgotten, &world.pod(Side::Scaler), world.time()).is_err());
    comes_together(&world);
}

#[tokio::test]
async fn a_process_that_ends_between_any_two_writes_leaves_what_the_next_one_completes() {
    // What happens, and whether the certificates of both sides are still good after it.
    type Broken = (fn(&World), bool);
    let table: [Broken; 8] = [
        (|_| {}, true),
        (|world| world.delete(AUTHORITY), true),
        (|world| world.edit(AUTHORITY, BTreeMap::clear), true),
        (|world| world.pass(days(61)), true),
        (
            |world| {
                world.delete(FRONT);
                world.delete(AUTHORITY);
            },
            false,
        ),
        (|world| world.edit(SCALER, BTreeMap::clear), false),
        (|world| world.pass(days(185)), false),
        (|world| world.pass(days(1000)), false),
    ];
    for (case, (break_it, good)) in table.into_iter().enumerate() {
        for writes in 0.. {
            let world = World::new();
            world.settle().await;
            let before = (world.pod(Side::Front), world.pod(Side::Scaler));
            break_it(&world);
            // Killed now, and once more an hour later, when the new CA may sign.
            let mut ended = true;
            for _ in 0..2 {
                world.kill_after(writes);
                ended &= world.try_settle().await.is_ok();
                world.revive();
                if good {
                    let after = (world.pod(Side::Front), world.pod(Side::Scaler));
                    shake(&after.0, &after.1, world.time()).unwrap();
                    // Pods that have not seen any of it yet.
                    shake(&before.0, &before.1, world.time()).unwrap();
                }
                world.settle().await;
                comes_together(&world);
                world.pass(SignedDuration::from_mins(61));
            }
            world.settle().await;
            comes_together(&world);
            if ended {
                break;
            }
            assert!(writes < 10, "case {case} does not end");
        }
    }
    for writes in 0..3 {
        let world = World::new();
        world.kill_after(writes);
        assert!(world.try_settle().await.is_err());
        world.revive();
        world.settle().await;
        comes_together(&world);
    }
}

#[tokio::test]
async fn two_operators_at_once_agree() {
    for break_it in [
        (|_: &World| {}) as fn(&World),
        |world| world.delete(AUTHORITY),
        |world| world.delete(FRONT),
        |world| world.pass(days(200)),
    ] {
        let world = World::new();
        world.settle().await;
        break_it(&world);
        let fresh = World::new();
        for world in [world, fresh] {
            let run = || {
                let world = world.clone();
                async move { settle(&world, &settings(), &mut Vec::new()).await }
            };
            let (one, two) = tokio::join!(tokio::spawn(run()), tokio::spawn(run()));
            one.unwrap().unwrap();
            two.unwrap().unwrap();
            comes_together(&world);
            assert!(world.settle().await.is_empty());
        }
    }
}

#[tokio::test]
async fn somebody_who_always_writes_otherwise_is_named_as_the_trouble() {
    /// Breaks what was written at once.
    struct Fought(World);
    impl crate::certificates::Store for Fought {
        async fn now(&self) -> Result<jiff::Timestamp, Error> {
            self.0.now().await
        }
        async fn read(
            &self,
            name: &str,
        ) -> Result<Option<k8s_openapi::api::core::v1::Secret>, Error> {
            self.0.read(name).await
        }
        async fn write(&self, secret: &k8s_openapi::api::core::v1::Secret) -> Result<(), Error> {
            self.0.write(secret).await?;
            self.0.edit(FRONT, BTreeMap::clear);
            Ok(())
        }
    }
    let fought = Fought(World::new());
    let error = settle(&fought, &settings(), &mut Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.category(), "unsettled");
    assert!(error.to_string().contains("front"), "{error}");
}

fn foreign() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What Helm made before: good for both sides, for a long time.
fn signed_by(authority: &CertifiedIssuer<'static, KeyPair>) -> BTreeMap<String, ByteString> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(settings().server_names).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    [
        (CA, authority.pem()),
        (CERTIFICATE, certificate.pem()),
        (KEY, key.serialize_pem()),
    ]
    .into_iter()
    .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
    .collect()
}
