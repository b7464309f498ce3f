//! Who comes first. Only queues that promise fairness are asked.

use super::*;

/// More than this many of others never come before a message of somebody who has nothing else waiting.
const HANDFUL: usize = 20;

fn burst(tenant: &str, many: usize) -> Vec<NewMessage> {
    (0..many).map(|i| message(&i.to_string()).tenant(tenant)).collect()
}

/// How many messages come before one of this tenant, which has to be there.
async fn before(fixture: &QueueFixture, tenant: &str) -> usize {
    for count in 0..=HANDFUL {
        if fixture.one(LONG).await.tenant == tenant {
            return count;
        }
    }
    panic!("more than {HANDFUL} of others came before {tenant}");
}

/// Ten thousand messages of one tenant do not delay another's, or one of another lane: at the start, in the middle, and
/// again.
pub async fn a_burst_delays_nobody_else(fixture: &QueueFixture) {
    if !fixture.queue.caps().fair {
        return;
    }
    fixture.enqueue(&burst("many", 10_000)).await;
    fixture.enqueue(&[message("x").tenant("first")]).await;
    before(fixture, "first").await;
    fixture.take(500, LONG).await;
    for tenant in ["second", "third", "first"] {
        fixture.enqueue(&[message("x").tenant(tenant)]).await;
        before(fixture, tenant).await;
    }
    fixture.enqueue(&[message("x").tenant("many").lane(Lane::Interactive)]).await;
    let came = fixture.take(HANDFUL, LONG).await;
    assert!(came.iter().any(|one| one.lane == Lane::Interactive), "somebody waits for it");
    // The control: in the order of enqueueing all of the others would have come before.
    assert!(came.iter().any(|one| one.tenant == "many" && one.lane == Lane::Normal));
}

/// Nor do a thousand messages whose leases have run out, which come again all at once.
pub async fn what_comes_again_delays_nobody_else(fixture: &QueueFixture) {
    if !fixture.queue.caps().fair || fixture.pass.is_none() {
        return;
    }
    fixture.enqueue(&burst("many", 1000)).await;
    fixture.take(1000, fixture.shortest).await;
    fixture.enqueue(&burst("many", 1000)).await;
    fixture.enqueue(&[message("x").tenant("other")]).await;
    fixture.pass(fixture.shortest).await;
    before(fixture, "other").await;
    // And they are not behind all that their own tenant has waiting.
    let came = fixture.take(100, LONG).await;
    let again = came.iter().filter(|one| one.attempt == 2).count();
    assert!((20..=80).contains(&again), "{again} of 100 came again");
}

/// While all have some waiting, lanes share as their weights say.
pub async fn lanes_share_by_weight(fixture: &QueueFixture) {
    if !fixture.queue.caps().fair {
        return;
    }
    for lane in [Lane::Bulk, Lane::Normal, Lane::Interactive] {
        let messages: Vec<_> = (0..600).map(|i| message(&i.to_string()).lane(lane)).collect();
        fixture.enqueue(&messages).await;
    }
    let total: u32 = Lane::ALL.iter().map(|lane| lane.weight()).sum();
    let rounds = 20;
    let came = fixture.take((total * rounds) as usize, LONG).await;
    for lane in Lane::ALL {
        let share = came.iter().filter(|one| one.lane == lane).count();
        let fair = (lane.weight() * rounds) as usize;
        assert!(share + 2 >= fair * 9 / 10 && share <= fair * 11 / 10 + 2, "{lane}: {share} and not about {fair}");
    }
}

/// However much that is more urgent keeps coming, everything is delivered at some time.
pub async fn nobody_starves(fixture: &QueueFixture) {
    if !fixture.queue.caps().fair {
        return;
    }
    fixture.enqueue(&[message("x").tenant("patient").lane(Lane::Bulk)]).await;
    for i in 0..200 {
        let busy = message(&i.to_string()).tenant("busy").lane(Lane::Interactive);
        fixture.enqueue(&[busy.clone(), busy]).await;
        if fixture.one(LONG).await.tenant == "patient" {
            return;
        }
    }
    panic!("200 others came first, and more keep coming");
}
