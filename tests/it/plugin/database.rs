//! What the tests of the database plugins share: a restore, and what a damaged artifact comes to.

use larder::plugin::{Call, CaptureFacts, CaptureInputs, RestoreOrder, Restored, Verb};

use super::*;

/// Puts what `bench` captured back into the application of its target.
pub(super) fn put_back(bench: &Bench, captured: &Captured, options: Value) -> Result<Restored, PluginFailure> {
    order(bench, captured, options, false)
}

/// Says what would be put back.
pub(super) fn rehearse(bench: &Bench, captured: &Captured, options: Value) -> Result<Restored, PluginFailure> {
    order(bench, captured, options, true)
}

fn order(bench: &Bench, captured: &Captured, options: Value, dry_run: bool) -> Result<Restored, PluginFailure> {
    let facts = CaptureFacts {
        artifacts: captured.artifacts.clone(),
        sources: captured.sources.clone(),
        app_version: captured.app_version.clone(),
        figures: captured.figures.clone(),
    };
    let order = RestoreOrder { dry_run, tree: bench.directory.path().join("tree"), options };
    runtime().block_on(bench.catalogue.restore(
        &Call {
            target: &bench.target,
            run: bench.run,
            staging: &bench.staging(),
            inputs: &CaptureInputs::default(),
            context: &bench.context(),
            limits: bench.limits,
        },
        facts,
        order,
        |_| {},
    ))
}

/// Puts back with a journal, and kills the plugin after `wait`, when it is still there.
pub(super) fn put_back_noted(
    bench: &Bench,
    captured: &Captured,
    options: Value,
    wait: Option<Duration>,
) -> Result<Restored, PluginFailure> {
    let facts = CaptureFacts {
        artifacts: captured.artifacts.clone(),
        sources: captured.sources.clone(),
        app_version: captured.app_version.clone(),
        figures: captured.figures.clone(),
    };
    let order = RestoreOrder { dry_run: false, tree: bench.directory.path().join("tree"), options };
    let inputs = CaptureInputs { journal: Some(bench.journal()), ..CaptureInputs::default() };
    let (staging, context) = (bench.staging(), bench.context());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            runtime().block_on(bench.catalogue.restore(&bench.call(&staging, &inputs, &context), facts, order, |_| {}))
        });
        if let Some(wait) = wait {
            let plugin = || super::plugin_of(&staging);
            support::wait_for("the plugin's process", Duration::from_secs(30), plugin);
            std::thread::sleep(wait);
            if let Some(pid) = plugin() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        running.join().unwrap()
    })
}

/// Puts back, and the plugin itself proves that it is there.
pub(super) fn restored(bench: &Bench, captured: &Captured, options: Value) -> Restored {
    let restored = put_back(bench, captured, options).unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    assert_eq!(verdict(&restored.validations), Verdict::Proven, "{:#?}", restored.validations);
    restored
}

pub(super) fn steps(restored: &Restored) -> Vec<(Verb, &str)> {
    restored.steps.iter().map(|step| (step.verb, step.thing.as_str())).collect()
}

/// Fails to put back with this code.
pub(super) fn not_put_back(bench: &Bench, captured: &Captured, options: Value, code: &str) -> PluginFailure {
    let failure = put_back(bench, captured, options).expect_err("the restore should fail");
    assert_eq!(failure.trouble.code, code, "{failure}\n{}", bench.log());
    failure
}

/// Damages an artifact in many ways: none of them is ever proven, and with no SHA-256 to help, every cut is seen too.
///
/// `flips` are places whose byte is changed; `foreign` is a file of another kind.
pub(super) fn never_proven_when_damaged(
    bench: &Bench,
    captured: &Captured,
    index: usize,
    flips: &[usize],
    foreign: &[u8],
) {
    let file = bench.staging().join(&captured.artifacts[index].path);
    let whole = std::fs::read(&file).unwrap();
    let mut without_hash = captured.clone();
    without_hash.artifacts[index].sha256 = None;
    // The plugin may also refuse to go on: then nothing is published either.
    let comes_to = |bytes: &[u8], captured: &Captured| {
        std::fs::write(&file, bytes).unwrap();
        bench.validate(captured).map_or(Verdict::Failed, |validations| verdict(&validations))
    };
    let length = whole.len();
    for end in [0, 1, 9, 100, length / 3, length / 2, length - 100, length - 60, length - 30] {
        let cut = &whole[..end];
        assert_eq!(comes_to(cut, captured), Verdict::Failed, "{end} bytes of {length}");
        assert_eq!(comes_to(cut, &without_hash), Verdict::Failed, "{end} bytes of {length}, without a hash");
    }
    for &at in flips {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        assert_eq!(comes_to(&flipped, captured), Verdict::Failed, "one bit at {at} of {length}");
    }
    let doubled = [whole.as_slice(), whole.as_slice()].concat();
    for wrong in [foreign, b"<html>not found</html>", &vec![0; length], &doubled] {
        assert_eq!(comes_to(wrong, captured), Verdict::Failed);
    }
    assert_eq!(comes_to(&whole, captured), Verdict::Proven, "as it was");
}
