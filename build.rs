//! How the program is linked, and what is packed into it.

use std::io::Write as _;

const FOLD: &str = "-Wl,--icf=all";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if gnu {
        // The addresses that the loader corrects take 1.5 MB of the file as a list, and a few KB so (glibc 2.36).
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // Functions that came out alike are kept once (0.15 MB of them): lld can, others can't.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if gnu && is_release && links_with(FOLD) {
        println!("cargo:rustc-link-arg-bins={FOLD}");
    }
    pack("schema/openrpc.json");
}

/// Deflates a file that is rarely read: a tenth of it is left.
#[allow(clippy::expect_used, reason = "a build that cannot read its sources ends")]
fn pack(path: &str) {
    println!("cargo:rerun-if-changed={path}");
    let text = std::fs::read(path).expect("the file is part of the sources");
    let name = path.rsplit('/').next().unwrap_or(path);
    let to = std::path::Path::new(&std::env::var_os("OUT_DIR").expect("cargo says where")).join(format!("{name}.z"));
    let file = std::fs::File::create(to).expect("cargo's directory can be written");
    let mut packed = flate2::write::ZlibEncoder::new(file, flate2::Compression::best());
    packed.write_all(&text).and_then(|()| packed.finish()).expect("cargo's directory can be written");
}

/// Whether the linker takes this argument.
fn links_with(argument: &str) -> bool {
    let (Some(out), Some(rustc)) = (std::env::var_os("OUT_DIR"), std::env::var_os("RUSTC")) else { return false };
    let (source, program) = (std::path::Path::new(&out).join("probe.rs"), std::path::Path::new(&out).join("probe"));
    let mut probe = std::process::Command::new(rustc);
    probe.arg(&source).arg("-o").arg(program).arg("-C").arg(format!("link-arg={argument}"));
    probe.args(std::env::var("TARGET").map(|target| format!("--target={target}")));
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        probe.arg("-C").arg(format!("linker={linker}"));
    }
    std::fs::write(source, "fn main() {}").is_ok() && probe.output().is_ok_and(|output| output.status.success())
}
