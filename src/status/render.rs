//! Templates to text: the one file that names the template engine. HTML is escaped by itself, what is not
//! defined is an error, and a template has fuel, so that an override can't hang the daemon.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::status::statistics::{say_growth, say_money, say_signed};
use crate::status::verdict::say_time;
use crate::status::{TargetView, View};
use crate::types::{ByteSize, show_duration};

/// Largest override of a template, in bytes.
const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;
/// Instructions of one rendering, whatever it shows.
const FUEL: u64 = 1_000_000;
/// Instructions more for each target: one with thirty runs needs below 5,000.
const FUEL_PER_TARGET: u64 = 20_000;

const SCRIPT: &str = include_str!("../../templates/page.js");
const STYLE: &str = include_str!("../../templates/page.css");

/// The templates of the program; an override directory may have a file of the same name instead.
const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("../../templates/base.html")),
    ("index.html", include_str!("../../templates/index.html")),
    ("target.html", include_str!("../../templates/target.html")),
    ("macros.html", include_str!("../../templates/macros.html")),
];

/// What the mails in HTML extend.
const MAIL_BASE: (&str, &str) = ("mail/base.html", include_str!("../../templates/mail/base.html"));

/// Says which template could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("the template {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the template {path} is larger than {TEMPLATE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("the template {name} cannot be parsed")]
    Parse {
        name: String,
        #[source]
        source: Box<Error>,
    },
    #[error("the template {name} cannot be rendered")]
    Render {
        name: String,
        #[source]
        source: Box<Error>,
    },
}

/// The compiled templates.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
}

impl Renderer {
    /// Compiles the templates, those of `overrides` instead of the program's where it has them.
    ///
    /// # Errors
    /// When an override cannot be read or parsed.
    pub fn new(overrides: Option<&Path>) -> Result<Self, RenderError> {
        let mut environment = environment();
        environment.add_global("style", Value::from_safe_string(STYLE.to_owned()));
        environment.add_global("script", Value::from_safe_string(SCRIPT.to_owned()));
        environment.add_global("policy", Value::from(content_security_policy()));
        for (name, text) in TEMPLATES {
            add(&mut environment, name, text, overrides)?;
        }
        Ok(Self { environment })
    }

    /// The page of everything.
    ///
    /// # Errors
    /// When the template fails: only an override can.
    pub fn index(&mut self, view: &View) -> Result<String, RenderError> {
        let targets = view.targets.len() as u64;
        self.environment.set_fuel(Some(targets.saturating_mul(FUEL_PER_TARGET).saturating_add(FUEL)));
        self.render("index.html", context! { view => Serde(view), root => "" })
    }

    /// The page of one target.
    ///
    /// # Errors
    /// When the template fails: only an override can.
    pub fn target(&self, view: &View, target: &TargetView) -> Result<String, RenderError> {
        self.render("target.html", context! { view => Serde(Head::of(view)), target => Serde(target), root => "../" })
    }

    fn render(&self, name: &str, context: Value) -> Result<String, RenderError> {
        let failed = |e: Error| RenderError::Render { name: name.to_owned(), source: Box::new(e) };
        self.environment.get_template(name).map_err(failed)?.render(context).map_err(failed)
    }
}

/// Renders one mail: `text` is the template of the program, `name` (`mail/failed.html`) decides how values are escaped and
/// which file of `overrides` wins; the fields of `context` are the template's variables.
///
/// # Errors
/// When the template cannot be read, parsed or rendered.
pub fn render_mail(
    name: &str,
    text: &str,
    overrides: Option<&Path>,
    context: &impl Serialize,
) -> Result<String, RenderError> {
    let mut environment = environment();
    for (name, text) in [MAIL_BASE, (name, text)] {
        add(&mut environment, name, text, overrides)?;
    }
    let failed = |e: Error| RenderError::Render { name: name.to_owned(), source: Box::new(e) };
    environment.get_template(name).map_err(failed)?.render(Value::from(Serde(context))).map_err(failed)
}

/// Compiles a template of the program, or the file of `overrides` with its name.
fn add(
    environment: &mut Environment<'static>,
    name: &str,
    text: &str,
    overrides: Option<&Path>,
) -> Result<(), RenderError> {
    let text = match overrides {
        Some(directory) => read_override(&directory.join(name))?.unwrap_or_else(|| text.to_owned()),
        None => text.to_owned(),
    };
    let failed = |e: Error| RenderError::Parse { name: name.to_owned(), source: Box::new(e) };
    environment.add_template_owned(name.to_owned(), text).map_err(failed)
}

/// The engine with our rules and filters, without templates.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    // It refuses only clashing delimiters, and these are the default ones.
    environment.set_syntax(syntax.unwrap_or_default());
    environment.add_filter("when", when);
    environment.add_filter("machine_time", machine_time);
    environment.add_filter("bytes", |bytes: u64| ByteSize(bytes).to_string());
    environment.add_filter("signed_bytes", say_signed);
    environment.add_filter("money", |amount: f64, currency: &str| say_money(amount, currency));
    environment.add_filter("growth", say_growth);
    environment.add_filter("duration", |ms: u64| show_duration(std::time::Duration::from_millis(ms)));
    environment.add_filter("seconds", |s: u64| show_duration(std::time::Duration::from_secs(s)));
    environment.add_filter("short", |text: &str| text.chars().take(7).collect::<String>());
    environment
}

/// What a target's page needs of the whole view.
#[derive(Serialize)]
struct Head<'a> {
    larder: &'a str,
    generated: Timestamp,
    stale_after_seconds: u64,
    site: &'a crate::status::SiteView,
    config: &'a crate::status::ConfigView,
}

impl<'a> Head<'a> {
    fn of(view: &'a View) -> Self {
        Self {
            larder: &view.larder,
            generated: view.generated,
            stale_after_seconds: view.stale_after_seconds,
            site: &view.site,
            config: &view.config,
        }
    }
}

/// The policy that the pages need: their own style and script by hash, nothing from anywhere.
#[must_use]
pub fn content_security_policy() -> String {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'",
        base64(&Sha256::digest(STYLE)),
        base64(&Sha256::digest(SCRIPT)),
    )
}

/// An instant for people in the zone `zone`.
fn when(at: &str, zone: &str) -> Result<String, Error> {
    let at: Timestamp = at.parse().map_err(|_| Error::new(ErrorKind::InvalidOperation, "no instant"))?;
    Ok(say_time(at, &TimeZone::get(zone).unwrap_or(TimeZone::UTC)))
}

/// An instant with its offset from UTC, for `title` attributes.
fn machine_time(at: &str, zone: &str) -> Result<String, Error> {
    let at: Timestamp = at.parse().map_err(|_| Error::new(ErrorKind::InvalidOperation, "no instant"))?;
    let zoned = at.to_zoned(TimeZone::get(zone).unwrap_or(TimeZone::UTC));
    Ok(zoned.strftime("%Y-%m-%d %H:%M:%S %:z %Z").to_string())
}

fn read_override(path: &Path) -> Result<Option<String>, RenderError> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RenderError::Read { path: path.to_owned(), source: e }),
        Ok(metadata) if metadata.len() > TEMPLATE_BYTES_MAX => {
            return Err(RenderError::TooLarge { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|e| RenderError::Read { path: path.to_owned(), source: e })
}

/// Standard base64 with padding, for the hashes of the policy.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let padded = [chunk.first(), chunk.get(1), chunk.get(2)].map(|byte| u32::from(byte.copied().unwrap_or(0)));
        let word = padded.iter().fold(0, |word, byte| (word << 8) | byte);
        for position in 0..4 {
            let sextet = (word >> (18 - 6 * position)) & 63;
            let letter = ALPHABET.get(sextet as usize).copied().unwrap_or(b'=');
            text.push(if position <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
