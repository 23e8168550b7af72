//! The plugin `invoiceninja`: the installation on this host (database, documents and `.env`), which is complete; or one
//! company's own export, asked for, waited for, and looked at in depth.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod capture;
mod contents;
mod export;
mod recover;
mod restore;
mod settings;
mod validate;
mod whole;

use settings::NinjaSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "invoiceninja",
    summary: "Invoice Ninja 5: database, documents and .env; or one company by its own export",
    guide: GUIDE,
    schema: || schemars::schema_for!(NinjaSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
};

const GUIDE: &str = "
A target, complete:
  plugin: invoiceninja
  with: {directory: /srv/invoiceninja}

In the backup: the database that .env names as SQL (as the plugin `mariadb` makes it), storage and public/storage
(without framework and logs), and .env with APP_KEY, without which every encrypted column (credentials of payment
gateways) is lost. A .env without it fails the run. Hooks switch the maintenance mode on and off, as the recipe
policies/recipes/invoiceninja.yaml does; under Docker Compose use the plugin `docker`.

Not in it: the program itself, the web server's and the queue's settings.

Least privilege: the daemon's user reads these files. The database is read as the user that .env names; `database` can
name one with less: SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES.

Restore: an Invoice Ninja of the same version, with a .env of its own that names an empty database, then
`larder restore TARGET --into TARGET --dry-run`. Files that are there and differ, and a database that has tables, are
replaced only with `overwrite=true`; of .env then the old one stays beside. Afterwards `php artisan migrate --force`,
`php artisan optimize`, and `php artisan storage:link` where public/storage was a link.

A target of one company, where you have no access to the server:
  plugin: invoiceninja
  with:
    url: https://invoices.lan
    token: {env: NINJA_TOKEN}

In the backup: export.zip with backup.json: clients, invoices, quotes, payments, products, users and settings of ONE
company. It holds the credentials of payment gateways in clear text, hashes of passwords and seeds of second factors.

Not in it: documents, logos and PDFs (an import downloads them from the old server, so after its loss they are gone);
other companies: a token belongs to one, make a target for each.

Least privilege: an API token of an administrator of that company (Settings, Account Management, API Tokens); others are
refused the export. Invoice Ninja mails the export's link to that user each time.

Version 5.6 or newer. The server's queue should run (QUEUE_CONNECTION=database or redis): with `sync` the export is made
while larder waits, up to `wait`, and a proxy may give up before.

Restore of an export: `larder restore TARGET --into TARGET --option purge=true` deletes all data of the company that the token
belongs to and imports the backup; Invoice Ninja says only by mail whether that went well. Never import a backup of a
newer version into an older one.";

const FILE: &str = "export.zip";
const FORMAT: &str = "invoiceninja-export";
const ZIP_BYTES_MAX: u64 = 16 << 30;
