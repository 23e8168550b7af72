//! The child's side of the built-in plugins: `larder plugin NAME` reads one request and answers with events.

use std::io::{IsTerminal as _, Read, Write as _};
use std::process::ExitCode;

use crate::error::{Trouble, codes};
use crate::plugin::apps::ALL;
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{Builtin, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{Action, Description, Event, PROTOCOL, REQUEST_BYTES_MAX, Request};

/// Answers the request on standard input; the whole life of a `larder plugin NAME` process. At a terminal, says what
/// the plugin is.
#[must_use]
pub fn builtin_main(name: &str) -> ExitCode {
    // What a plugin writes holds the application's data: for the daemon's user alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut stdout = std::io::stdout();
    if std::io::stdin().is_terminal()
        && let Some(text) = described(name)
    {
        // A person, not larder: there will be no request.
        return match stdout.write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let mut events = EventWriter { out: &mut stdout };
    match answer(name, std::io::stdin(), &mut events) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let Failure { trouble: Trouble { code, message, hint }, retry } = failure;
            events.say(&Event::Failed { code, message, hint, retry });
            ExitCode::FAILURE
        }
    }
}

fn of_name(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|each| each.name == name)
}

fn described(name: &str) -> Option<String> {
    of_name(name).map(Builtin::describe)
}

fn answer(name: &str, stdin: impl Read, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let builtin = of_name(name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|each| each.name).collect();
        Failure::new(
            codes::UNKNOWN_PLUGIN,
            format!("there is no built-in plugin {name:?}; there are {}", names.join(", ")),
        )
    })?;
    let request = read_request(stdin)?;
    match request.action {
        Action::Describe => {
            events.say(&Event::Description(Description {
                protocol: PROTOCOL,
                summary: builtin.summary.to_owned(),
                settings: (builtin.schema)(),
                capabilities: builtin.capabilities(),
                restore_options: builtin.restore.as_ref().map(|restore| (restore.options)()),
            }));
            Ok(())
        }
        Action::Capture => (builtin.capture)(&request, events),
        Action::Validate => {
            asked::facts(&request)?;
            (builtin.validate)(&request, events)
        }
        Action::Restore => match &builtin.restore {
            Some(restore) => {
                asked::facts(&request)?;
                asked::order(&request)?;
                (restore.run)(&request, events)
            }
            None => Err(cannot(name, "restore into an application")
                .hint("restore the files with `larder restore TARGET --to DIR`, then follow `larder plugin describe`")),
        },
        Action::Recover => match builtin.recover {
            Some(recover) => recover(&request, events),
            None => Err(cannot(name, "recover")),
        },
    }
}

fn cannot(name: &str, what: &str) -> Failure {
    Failure::new(codes::NOT_SUPPORTED, format!("the plugin {name} does not {what}"))
}

/// Errors never quote the request: it holds secrets.
fn read_request(stdin: impl Read) -> Result<Request, Failure> {
    let refuse = |message: &str| Failure::new(codes::REQUEST, message);
    let mut bytes = Vec::new();
    stdin
        .take(REQUEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(codes::REQUEST, format!("standard input cannot be read: {error}")))?;
    if bytes.len() as u64 > REQUEST_BYTES_MAX {
        return Err(refuse("the request has more than 16 MiB"));
    }
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Failure::new(codes::REQUEST, format!("standard input holds no request of protocol {PROTOCOL} ({place})"))
            .hint("this program is started by larder; for its settings see `larder plugin describe NAME`")
    })?;
    if request.protocol != PROTOCOL {
        return Err(Failure::new(
            codes::PLUGIN_PROTOCOL,
            format!("the request speaks protocol {}, this plugin speaks {PROTOCOL}", request.protocol),
        ));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ask(name: &str, request: &str) -> (Result<(), Failure>, String) {
        let mut out = Vec::new();
        let result = answer(name, request.as_bytes(), &mut EventWriter { out: &mut out });
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_builtin_describes_itself_with_a_strict_schema() {
        for builtin in ALL {
            let (result, out) = ask(builtin.name, r#"{"protocol":1,"action":"describe"}"#);
            assert!(result.is_ok());
            let said: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(said["settings"]["type"], "object", "{}", builtin.name);
            assert_eq!(said["settings"]["additionalProperties"], false, "{}", builtin.name);
            for (name, property) in said["settings"]["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}.{name} has no description", builtin.name);
            }
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_is_told_without_quoting_it() {
        for request in ["", "{", r#"{"protocol":1,"action":"dance","settings":{"password":"hunter2"}}"#] {
            let (result, out) = ask("files", request);
            let failure = result.unwrap_err();
            assert_eq!(failure.trouble.code, "request");
            assert!(!failure.trouble.to_string().contains("hunter2") && out.is_empty());
        }
        let newer = ask("files", r#"{"protocol":2,"action":"describe"}"#).0.unwrap_err();
        assert_eq!(newer.trouble.code, "plugin_protocol");
        assert_eq!(ask("fies", "").0.unwrap_err().trouble.code, "unknown_plugin");
        let huge = " ".repeat(17 << 20);
        assert_eq!(ask("files", &huge).0.unwrap_err().trouble.message, "the request has more than 16 MiB");
    }

    #[test]
    fn settings_in_the_wrong_place_are_told_without_quoting_a_value() {
        let request = r#"{"protocol":1,"action":"capture","settings":{"paths":"hunter2"}}"#;
        let failure = ask("files", request).0.unwrap_err();
        assert_eq!(failure.trouble.code, "settings");
        assert!(!failure.trouble.to_string().contains("hunter2"));
    }

    #[test]
    fn people_can_read_what_a_plugin_keeps_and_needs() {
        for builtin in ALL {
            let text = described(builtin.name).unwrap();
            for part in ["In the backup", "Not in it", "Least privilege", "Settings"] {
                assert!(text.contains(part), "{} says nothing of {part:?}:\n{text}", builtin.name);
            }
        }
        assert_eq!(described("nope"), None);
    }
}
