//! The plugin `grafana`: what people made in Grafana, one JSON file an object, read and put back through its API.
//!
//! Each file has its keys in order and none of what changes by itself, so the same object is the same file in every run.
//! A token that may see less than before gets an answer of 200 with fewer objects: what was there is compared.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod apply;
mod capture;
mod collect;
mod object;
mod recover;
mod restore;
mod settings;
mod validate;

use object::{Kind, Object};
use settings::GrafanaSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "grafana",
    summary: "Grafana: dashboards, folders, data sources, library panels and alerting, through its API",
    guide: GUIDE,
    schema: || schemars::schema_for!(GrafanaSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
};

const GUIDE: &str = "
In the backup: folders (nested ones too), dashboards (of the old and of the new schema), data sources, library panels,
alert rules by group, contact points, the notification policies, mute timings and templates, of one organisation; one
JSON file each. Each dashboard is looked at: an empty one, a login page, or fewer objects than before is no backup.

Not in it: secrets. Grafana never gives the passwords of data sources, and shows those of contact points as [REDACTED]:
a restore says which to enter again. Also not: users and their passwords, teams, permissions, tokens, annotations,
preferences, plugins. For those keep Grafana's database (`sqlite`, `postgres`) and grafana.ini (`files`) too.

Least privilege: a service account token with the basic role Admin in the organisation (Administration > Service
accounts). With Viewer or Editor Grafana answers, but leaves out what they may not see. Larder only reads, until a
restore. For several organisations: one target each, with `username`, `password` and `org`.

Restore: `larder restore TARGET --into TARGET`, first with --dry-run: it compares with what is there and says what it
would create, replace and keep. Nothing is deleted. Doing it twice does no harm. What is provisioned from files on the
server is left alone. Grafana takes one object after the other: each as it is now is noted first, and put back when
something fails, also when Larder is killed in between.";

const UNSEEN_HINT: &str = "give the service account the basic role Admin; delete in Grafana what is broken there, or \
                           name the uids in `accept_unseen`";

fn of(objects: &[Object], kind: Kind) -> impl Iterator<Item = &Object> {
    objects.iter().filter(move |object| object.kind == kind)
}
