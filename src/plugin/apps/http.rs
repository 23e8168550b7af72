//! The plugin `http`: any application that gives its export at an address.
//!
//! What came is believed only after the checks that the settings name; a page in HTML where something else was wanted,
//! a redirect and an empty body are refused without any.

use crate::plugin::kit::builtin::Builtin;

mod capture;
mod checks;
mod settings;
mod validate;

use settings::HttpSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "http",
    summary: "Whatever an application exports at an address",
    guide: GUIDE,
    schema: || schemars::schema_for!(HttpSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: None,
    recover: None,
};

const GUIDE: &str = "
A target:
  plugin: http
  with:
    url: https://app.lan/api/export
    bearer: {env: APP_TOKEN}
    content_type: application/json
    validate: [json, {min_size: 10KiB}, {contains: '\"rules\"'}]

In the backup: the body of one answer, as one file, streamed to the disk.

Not in it: whatever the application leaves out of its export; look into one. What is not checked is not known: without
`validate` only the size and the kind of the answer are. `inside: {sql_dump: mysql, contains: TEXT, min_size: 10KiB}` looks
through gzip, xz, zstd, bzip2, tar and zip at what was packed; nothing in a wrapper is refused without being asked.

Least privilege: a token that may read or export and nothing else. Redirects are not followed (behind them is a login
page), pages in HTML are refused unless `content_type: text/html` is wanted.

Restore: `larder restore TARGET --to DIR`, then import the file into the application.";

const SIZE_MAX: u64 = 64 << 30;
