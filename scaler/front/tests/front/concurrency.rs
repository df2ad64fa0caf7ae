//! No instance ever has more requests than its concurrency, and nothing waits beside a free slot.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use maniple_core::slots::message::InstanceUid;
use maniple_front::pool::GroupSettings;

use crate::{
    client::{get, get_request, send},
    cluster::{Front, Hub, group, settings, until},
    instance::Instance,
};

/// Three front ends, `cap` slots on each of `instances`, many clients; streams to the data role break meanwhile.
async fn storm(cap: u16, instances: usize, clients: usize, each: usize) {
    let hub = Hub::start();
    let mut all = Vec::new();
    for uid in 0..instances {
        let instance = Instance::start().await;
        hub.add(uid as u128 + 1, instance.address, cap);
        all.push(instance);
    }
    let mut fronts = Vec::new();
    for number in 1..=3 {
        fronts.push(Front::start(&hub, number, settings()).await);
    }
    let mut tasks = Vec::new();
    for client in 0..clients {
        let to = fronts[client % fronts.len()].address;
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                assert_eq!(get(to, "/work").await, (StatusCode::OK, "done".to_owned()));
            }
        }));
    }
    for turn in 0..6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        hub.cut(fronts[turn % fronts.len()].id);
    }
    for task in tasks {
        task.await.unwrap();
    }
    let total: u32 = all.iter().map(|instance| instance.seen.total()).sum();
    assert_eq!(total as usize, clients * each, "every request ran once");
    for instance in &all {
        assert!(
            instance.seen.most() <= u32::from(cap),
            "{} at once with {cap} slots",
            instance.seen.most()
        );
    }
    assert!(
        all.iter()
            .any(|instance| instance.seen.most() == u32::from(cap)),
        "the slots were used"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slot_an_instance_shared_by_three_front_ends() {
    storm(1, 2, 24, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_slots_an_instance_shared_by_three_front_ends() {
    storm(4, 2, 48, 12).await;
}

#[tokio::test]
async fn a_slot_held_idle_elsewhere_is_fetched() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let (one, two) = (
        Front::start(&hub, 1, settings()).await,
        Front::start(&hub, 2, settings()).await,
    );
    assert_eq!(get(one.address, "/").await.0, StatusCode::OK);
    assert_eq!(one.group().slots().0, 1);
    assert_eq!(get(two.address, "/").await.0, StatusCode::OK);
    assert_eq!((one.group().slots().0, two.group().slots().0), (0, 1));
}

#[tokio::test]
async fn a_slot_that_becomes_free_elsewhere_is_given_up_at_once() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 2);
    let (one, two) = (
        Front::start(&hub, 1, settings()).await,
        Front::start(&hub, 2, settings()).await,
    );
    let (first, second) = (one.address, two.address);
    let early = tokio::spawn(async move { get(first, "/events").await });
    until("the first one runs", async || instance.seen.running() == 1).await;
    let held = tokio::spawn(async move { get(second, "/hold").await });
    until("both run", async || instance.seen.running() == 2).await;
    let waits = tokio::spawn(async move { get(second, "/work").await });
    until("one waits", async || two.group().waiting() == 1).await;
    // Both have their share, so that only a free slot may be fetched: the first front end's, when its client goes and the stream ends.
    early.abort();
    instance.end_events.send_replace(true);
    assert_eq!(waits.await.unwrap().1, "done");
    instance.open.send_replace(true);
    assert_eq!(held.await.unwrap().1, "held");
    assert_eq!(instance.seen.most(), 2);
}

#[tokio::test]
async fn slots_in_no_use_go_back() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    assert_eq!(get(front.address, "/").await.0, StatusCode::OK);
    until("every slot is returned", async || {
        hub.look(|role| role.leased(InstanceUid(1))).await == 0
    })
    .await;
}

#[tokio::test]
async fn the_room_is_bounded_by_count_and_time_and_says_so() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let limits = GroupSettings {
        room: 2,
        patience: Duration::from_millis(300),
        ..settings()
    };
    let front = Front::start(&hub, 1, limits).await;
    let to = front.address;
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("the first one runs", async || instance.seen.running() == 1).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { send(to, get_request("/")).await.unwrap() }))
        .collect();
    until("two wait", async || front.group().waiting() == 2).await;
    let refused = send(to, get_request("/")).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    for task in waiting {
        let late = task.await.unwrap();
        assert_eq!(
            (late.status(), &late.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
        );
    }
    let (_, text) = get(to, "/").await;
    assert!(
        text.contains("\"error\":\"waiting-room-timeout\""),
        "{text}"
    );
    until("what runs is told", async || {
        let demand = hub.look(|role| role.demand(&group(), 0)).await;
        (demand.current, demand.certain) == (1, 1)
    })
    .await;
    instance.open.send_replace(true);
    assert_eq!(held.await.unwrap().1, "held");
}

#[tokio::test]
async fn a_client_that_leaves_the_line_frees_its_place() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(
        &hub,
        1,
        GroupSettings {
            room: 1,
            ..settings()
        },
    )
    .await;
    let to = front.address;
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("the first one runs", async || instance.seen.running() == 1).await;
    let gone = tokio::spawn(async move { get(to, "/work").await });
    until("one waits", async || front.group().waiting() == 1).await;
    gone.abort();
    until("nobody waits", async || front.group().waiting() == 0).await;
    let next = tokio::spawn(async move { get(to, "/work").await });
    until("the next one waits", async || front.group().waiting() == 1).await;
    instance.open.send_replace(true);
    assert_eq!(
        (held.await.unwrap().1, next.await.unwrap().1),
        ("held".to_owned(), "done".to_owned())
    );
    assert_eq!(instance.seen.total(), 2, "the one that left never ran");
}

#[tokio::test]
async fn a_request_whose_client_left_keeps_its_slot_until_the_instance_answers() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    // The connection stands: what is taken for the end of broken ones does not matter.
    let unlimited = GroupSettings {
        linger: Duration::from_millis(1),
        run_limit: None,
        ..settings()
    };
    let front = Front::start(&hub, 1, unlimited).await;
    let to = front.address;
    let gone = tokio::spawn(async move { get(to, "/hold").await });
    until("it runs", async || instance.seen.running() == 1).await;
    gone.abort();
    let next = tokio::spawn(async move { get(to, "/work").await });
    until("the next one waits", async || front.group().waiting() == 1).await;
    assert_eq!(instance.seen.running(), 1);
    instance.open.send_replace(true);
    assert_eq!(next.await.unwrap().1, "done");
    assert_eq!(instance.seen.most(), 1);
}

#[tokio::test]
async fn requests_wait_for_an_instance_that_starts_later() {
    let hub = Hub::start();
    let front = Front::start(&hub, 1, settings()).await;
    let to = front.address;
    let early: Vec<_> = (0..3)
        .map(|_| tokio::spawn(async move { get(to, "/work").await }))
        .collect();
    until("the data role hears of them", async || {
        hub.look(|role| role.demand(&group(), 0).waiting).await == 3
    })
    .await;
    // The address is known before anybody listens there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    hub.add(1, address, 2);
    until("slots are there", async || front.group().slots().0 == 2).await;
    assert_eq!(
        front.group().slots().1,
        0,
        "nothing is sent to a closed port"
    );
    let instance = Instance::on(socket.listen(64).unwrap());
    for task in early {
        assert_eq!(task.await.unwrap(), (StatusCode::OK, "done".to_owned()));
    }
    assert!(instance.seen.most() <= 2);
    assert!(
        front
            .metrics()
            .contains("front_cold_starts_total{group=\"ns/app/http\"} 3"),
        "{}",
        front.metrics()
    );
}

#[tokio::test]
async fn a_removed_instance_runs_nothing_when_it_is_deleted() {
    let hub = Hub::start();
    let (first, second) = (Instance::start().await, Instance::start().await);
    hub.add(1, first.address, 1);
    hub.add(2, second.address, 1);
    let front = Front::start(&hub, 1, settings()).await;
    let to = front.address;
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("it runs on the first", async || first.seen.running() == 1).await;
    hub.change(|role| role.remove(InstanceUid(1), 0));
    assert_eq!(get(to, "/work").await.1, "done");
    assert_eq!((first.seen.total(), second.seen.total()), (1, 1));
    assert!(
        hub.look(|role| role.instance(InstanceUid(1)).is_some())
            .await,
        "not deleted while it works"
    );
    first.open.send_replace(true);
    assert_eq!(held.await.unwrap().1, "held");
    until("it is deleted", async || {
        hub.look(|role| role.instance(InstanceUid(1)).is_none())
            .await
    })
    .await;
}

#[tokio::test]
async fn a_front_end_that_leaves_gives_everything_back() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 2);
    let front = Front::start(&hub, 1, settings()).await;
    let to = front.address;
    let held = tokio::spawn(async move { get(to, "/hold").await });
    until("it runs", async || instance.seen.running() == 1).await;
    front.stop.cancel();
    instance.open.send_replace(true);
    assert_eq!(held.await.unwrap().1, "held");
    front.served.await.unwrap();
    front.stop_control.cancel();
    front.control.await.unwrap();
    until("the books are empty", async || {
        hub.look(|role| role.members().count() == 0 && role.leased(InstanceUid(1)) == 0)
            .await
    })
    .await;
}

#[tokio::test]
async fn few_requests_gather_on_the_first_instances_and_are_even_there() {
    let hub = Hub::start();
    let (first, second, third) = (
        Instance::start().await,
        Instance::start().await,
        Instance::start().await,
    );
    let all = [&first, &second, &third];
    for (uid, instance) in (1..).zip(all) {
        hub.add(uid, instance.address, 4);
    }
    let front = Front::start(&hub, 1, settings()).await;
    until("every instance serves", async || {
        let instances = front.group().instances();
        instances.len() == 3 && instances.iter().all(|i| i.word().open())
    })
    .await;
    let hold = |count: usize| -> Vec<_> {
        (0..count)
            .map(|_| tokio::spawn(send(front.address, get_request("/hold"))))
            .collect()
    };
    let running = || all.map(|instance| instance.seen.running());
    // More than two instances can run, so all three take part.
    let mut requests = hold(9);
    until("nine run", async || running().iter().sum::<u32>() == 9).await;
    for instance in all {
        instance.open.send_replace(true);
    }
    for request in requests.drain(..) {
        let response = request.await.unwrap().unwrap();
        response.into_body().collect().await.unwrap();
    }
    // What is not used for a while goes back, and is asked for again by the first two alone.
    until("unused slots are returned", async || {
        front.group().slots().0 == 0
    })
    .await;
    for instance in all {
        instance.open.send_replace(false);
    }
    let requests = hold(6);
    until("six run", async || running().iter().sum::<u32>() == 6).await;
    assert_eq!(running()[2], 0, "{:?}", running());
    for instance in all {
        instance.open.send_replace(true);
    }
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_group_without_route_is_forgotten_after_its_last_instance() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(&hub, 1, settings()).await;
    assert_eq!(get(front.address, "/work").await.0, StatusCode::OK);
    front.pool.keep_routed(&std::collections::HashSet::new());
    hub.change(|role| role.on_instance_gone(InstanceUid(1), 0));
    until("the group is forgotten", async || {
        front.pool.group(&group()).is_none()
    })
    .await;
    // It comes back as new.
    front.pool.configure(&group(), settings());
    hub.add(2, instance.address, 1);
    until("the instance serves", async || {
        let instances = front.group().instances();
        instances.len() == 1 && instances[0].word().open()
    })
    .await;
}
