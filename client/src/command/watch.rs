//! `watch`.

use serde_json::json;

use super::arguments::Watch;
use super::failure::Failure;
use super::key_value::range;
use super::report::{event_line, events};
use super::session::Session;
use crate::error::ClientError;
use crate::watch::WatchEvent;

impl Watch {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let mut watch = session
            .client
            .watch(range(&self.key, self.prefix), self.from)
            .await
            .map_err(|error| session.fail(error))?;
        let mut left = self.count;
        while left != Some(0) {
            let event = watch.next().await;
            session.warn_of_accusations();
            match event {
                Ok(WatchEvent::Events(list)) => {
                    if session.report.json {
                        session.report.value(&events(&list))?;
                    } else {
                        for event in &list.events {
                            session.report.bytes(event_line(list.revision, event).as_bytes())?;
                        }
                    }
                    left = left.map(|left| left - 1);
                }
                // JSON readers learn how far the watch has come; people need not.
                Ok(WatchEvent::Progress(revision)) if session.report.json => {
                    session.report.value(&json!({"v": 1, "progress": revision}))?;
                }
                Ok(WatchEvent::Progress(_)) => {}
                Err(ClientError::Compacted(revision)) => {
                    if session.report.json {
                        session.report.value(&json!({"v": 1, "compacted": revision}))?;
                    }
                    return Err(Failure::refused(format!(
                        "the revisions before {revision} are compacted; watch again with --from {revision}"
                    )));
                }
                Err(error) => return Err(session.fail(error)),
            }
        }
        Ok(())
    }
}
