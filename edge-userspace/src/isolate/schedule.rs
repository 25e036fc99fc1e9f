//! Workers that run by themselves: once a minute, what `[zone.worker] schedule` says is due. The
//! first thread of the node keeps the time (`node::threads`); a run is as one of a request, with a
//! slot, a meter, a deadline and a log, and no client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::Ended;
use super::grant::{Grant, Lineage};
use super::handler::{Isolated, spawn};
use super::kind::Kind;
use super::program::{Call, Due, Responder};
use super::upgrade::Upgrade;
use crate::base::clock::UnixTime;
use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::config::isolate::cron::Minute;
use crate::http::body::Body;
use crate::http::door::{self, Authority};
use crate::http::message::Exchange;
use crate::zones::Zone;

/// Seconds of a minute.
const MINUTE: u64 = 60;

/// The minute that begins `seconds` after 1970, UTC.
fn minute(seconds: u64) -> Option<Minute> {
    let at = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let at = at.to_zoned(TimeZone::UTC);
    let small = |n: i8| u8::try_from(n).ok();
    Some(Minute {
        minute: small(at.minute())?,
        hour: small(at.hour())?,
        day: small(at.day())?,
        month: small(at.month())?,
        weekday: small(at.weekday().to_sunday_zero_offset())?,
    })
}

impl Isolated {
    /// Begins what is due, at the beginning of each minute, until it is dropped. A minute that the
    /// clock skips, or that passes while the node is down, is not made up for.
    pub async fn keep_time(&self) {
        let mut last = UnixTime::now().secs() / MINUTE;
        loop {
            let into = UnixTime::now().millis() % (MINUTE * 1_000);
            tokio::time::sleep(Duration::from_millis(MINUTE * 1_000 - into)).await;
            let seconds = UnixTime::now().secs();
            let this = seconds / MINUTE;
            // The timer may be early by a clock that was set.
            if this == last {
                continue;
            }
            last = this;
            let Some(minute) = minute(seconds) else { continue };
            for zone in self.isolates().zones().load().all() {
                let schedule = zone.worker.iter().flat_map(|worker| &worker.schedule);
                for cron in schedule.filter(|cron| cron.is_due(minute)) {
                    let due = Due {
                        cron: cron.text().to_owned(),
                        at: this.saturating_mul(MINUTE).saturating_mul(1_000),
                    };
                    self.fire(zone, due).await;
                }
            }
        }
    }

    /// Begins one run. One that finds no slot is counted, as a request would be.
    async fn fire(&self, zone: &Arc<Zone>, due: Due) {
        let Some(deployment) = self.isolates().deployment(&zone.name) else {
            return;
        };
        let tenant = &deployment.tenant;
        let (Some(active), Some(worker)) = (deployment.active.load_full(), &zone.worker) else {
            return;
        };
        let Ok(reach) = self.reach() else { return };
        let limits = &worker.limits;
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let exchange = Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: nowhere,
                local: nowhere,
                accepted: Instant::now(),
                handshake: None,
                early: None,
                via: None,
            }),
            zone: zone.clone(),
            host: zone.stand_in.clone(),
            started: Instant::now(),
        };
        let lineage = Lineage::root(&http::HeaderMap::new(), limits.subrequests);
        let grant = Grant::new((tenant, limits), exchange, lineage, reach.clone(), Upgrade::default());
        if active.program.kind() == Kind::Component {
            grant.reason("its schedule is for scripts that export `scheduled`, and the worker is a component");
            return tenant.counts.failed(Ended::NoResponse);
        }
        let taken = match self.slots(tenant, false).await {
            Ok(taken) => taken,
            Err(ended) => {
                grant.reason(&format!("its schedule \"{}\": {ended}", due.cron));
                return tenant.counts.failed(ended);
            }
        };
        let Some(call) = call(zone, due, &grant) else {
            return tenant.counts.failed(Ended::Internal);
        };
        // Whoever would wait for a response is not there.
        let (responder, _) = tokio::sync::oneshot::channel();
        let run = active.program.clone().run(call, Responder(responder));
        spawn(self.isolates(), grant, taken, run);
    }
}

/// The call of a run: a request for the zone's first page that nobody made, and what is due.
fn call(zone: &Zone, due: Due, grant: &Arc<Grant>) -> Option<Call> {
    let url: url::Url = format!("https://{}/", zone.stand_in).parse().ok()?;
    let authority = Authority::read(zone.stand_in.as_bytes(), true)?;
    let request = http::Request::builder().method(Method::GET).uri(url.as_str());
    let (parts, ()) = request.body(()).ok()?.into_parts();
    let head = door::guest(parts, &authority, zone, false, false).ok()?;
    Some(Call {
        head: Arc::new(head),
        url,
        body: Body::Empty,
        grant: grant.clone(),
        due: Some(due),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule would run in another hour, or on another day of the week.
    #[test]
    fn minutes_are_utc() {
        let at = minute(1_709_208_000).unwrap();
        let expected = Minute {
            minute: 0,
            hour: 12,
            day: 29,
            month: 2,
            weekday: 4,
        };
        assert_eq!(at, expected, "2024-02-29, a Thursday");
    }
}
