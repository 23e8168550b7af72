//! What every plugin does alike, whatever its application: a new one gets these tests by being in the list.

use std::process::{Command, ExitStatus, Output, Stdio};

use super::*;

/// No plugin takes so long to refuse.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Runs `larder plugin NAME`, gives it `request` and hears what it says.
fn ask(name: &str, request: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = plugin(name, Stdio::piped(), Stdio::piped());
    // It may have refused already and hear no more.
    let _ = child.stdin.take().unwrap().write_all(request);
    let status = end_of(name, &mut child);
    let mut output = child.wait_with_output().unwrap();
    output.status = status;
    output
}

fn plugin(name: &str, stdin: Stdio, stdout: Stdio) -> std::process::Child {
    let mut command = Command::new(support::larder());
    command.args(["plugin", name]).stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

fn end_of(name: &str, child: &mut std::process::Child) -> ExitStatus {
    support::wait_for(&format!("the end of {name}"), ANSWER_MAX, || child.try_wait().unwrap())
}

/// The code of the one `failed` that a refusal consists of.
fn refused(name: &str, request: &Value) -> String {
    code_of(name, &ask(name, request.to_string().as_bytes()))
}

fn code_of(name: &str, output: &Output) -> String {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!output.status.success(), "{name} ended well and said {said}");
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "{name} said {said}");
    assert_eq!(events[0]["event"], "failed", "{name} said {said}");
    events[0]["code"].as_str().unwrap().to_owned()
}

fn request(action: &str, staging: &Path) -> Value {
    json!({"protocol": 1, "action": action, "target": "sample", "run": "01", "staging": staging, "settings": {}})
}

fn names() -> impl Iterator<Item = &'static str> {
    larder::plugin::ALL.iter().map(|each| each.name)
}

#[test]
fn a_request_that_is_empty_cut_or_of_another_protocol_is_refused_by_every_plugin() {
    for name in names() {
        for bytes in [&b""[..], b"{", br#"{"protocol":1,"action":"capture","settings":{"#, b"\xff\xfe", b"[]", b"null"]
        {
            assert_eq!(code_of(name, &ask(name, bytes)), "request", "{name}: {}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(refused(name, &json!({"protocol": 99, "action": "describe"})), "plugin_protocol", "{name}");
    }
}

#[test]
fn every_plugin_ends_when_nobody_asks_or_nobody_listens() {
    for name in names() {
        let mut unasked = plugin(name, Stdio::null(), Stdio::null());
        assert!(!end_of(name, &mut unasked).success(), "{name} did something that nobody asked for");
        let mut unheard = plugin(name, Stdio::piped(), Stdio::piped());
        drop(unheard.stdout.take());
        std::io::Write::write_all(unheard.stdin.as_mut().unwrap(), br#"{"protocol":1,"action":"describe"}"#).unwrap();
        drop(unheard.stdin.take());
        end_of(name, &mut unheard);
    }
}

#[test]
fn settings_that_no_plugin_knows_are_refused_by_its_schema_and_by_itself() {
    let catalogue = Catalogue::discover(larder::plugin::ALL, Some(&plugins_dir()), &support::larder()).unwrap();
    assert!(catalogue.names().len() > larder::plugin::ALL.len(), "there is one of somebody else, too");
    let directory = tempfile::tempdir().unwrap();
    let unknown = json!({"no_such_setting": 1});
    for name in catalogue.names() {
        let schema = catalogue.schema(&name).unwrap();
        let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!validator.is_valid(&unknown), "{name} takes an unknown setting");
        assert!(!validator.is_valid(&json!([])), "{name} takes a list");
        let is_built_in = names().any(|each| each == name);
        for action in ["capture", "validate", "restore"].into_iter().filter(|_| is_built_in) {
            let mut request = request(action, directory.path());
            request["settings"] = unknown.clone();
            request["capture"] = json!({});
            request["restore"] = json!({"dry_run": true});
            let code = refused(&name, &request);
            assert!(code == "settings" || (action, code.as_str()) == ("restore", "not_supported"), "{name}: {code}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a refusal leaves nothing");
}

#[test]
fn nothing_is_put_back_and_nothing_proven_that_nobody_named() {
    let directory = tempfile::tempdir().unwrap();
    for builtin in larder::plugin::ALL {
        let name = builtin.name;
        assert_eq!(refused(name, &request("validate", directory.path())), "request", "{name}");
        let mut restore = request("restore", directory.path());
        let unordered = refused(name, &restore);
        restore["capture"] = json!({});
        let expected = if unordered == "not_supported" { "not_supported" } else { "request" };
        assert_eq!((unordered.as_str(), refused(name, &restore).as_str()), (expected, expected), "{name}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a refusal leaves nothing");
}
