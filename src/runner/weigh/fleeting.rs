//! Mounts that come and go by themselves: those of the kernel, of sessions, packages, and container engines. Pure.
//!
//! An engine mounts under names that it makes up, for as long as something runs: that one of them is gone is no loss. What
//! somebody mounted at the engine's directory itself, or under a name that somebody gave, holds what somebody keeps.

use std::path::Path;

/// The kernel's own: these and all below.
const KERNEL: &[&str] = &["/dev", "/proc", "/sys"];

/// What is mounted here, or deeper, lasts as long as a session, a service, a container or a package.
const PLACES: &[&str] = &[
    "/run/containerd/*",
    "/run/containers/*",
    "/run/credentials/*",
    "/run/crio/*",
    "/run/docker/*",
    "/run/flatpak/*",
    "/run/incus/*",
    "/run/k3s/*",
    "/run/libpod/*",
    "/run/lxc/*",
    "/run/lxd/*",
    "/run/netns/*",
    "/run/podman/*",
    "/run/snapd/*",
    "/run/systemd/*",
    "/run/timeshift/*",
    "/run/user/*",
    "/snap/*/*",
    "/var/lib/snapd/snap/*/*",
];

/// Where engines keep their data when nobody says otherwise.
const ENGINES: &[&str] = &[
    "/var/lib/buildkit",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
];

/// What engines mount in their data, or deeper; the last `*` is the name that they make up.
const ENGINE_MOUNTS: &[&str] = &[
    "aufs/mnt/*",
    "containers/*/mounts/shm",
    "containers/*/mounts/secrets",
    "devicemapper/mnt/*",
    "executor/*/rootfs",
    "fuse-overlayfs/*/merged",
    "io.containerd.runtime.v2.task/*/*/rootfs",
    "kubernetes.io/csi/*/*/globalmount",
    "kubernetes.io/*/mounts/*",
    "netns/*",
    "overlay-containers/*/userdata",
    "overlay/*/merged",
    "overlay2/*/merged",
    "plugins/*/propagated-mount",
    "plugins/*/rootfs",
    "pods/*/volume-subpaths",
    "pods/*/volumes",
    "rootfs/overlayfs/*",
    "tmpmounts/*",
    "zfs/graph/*",
];

/// A part of a name that is made up has at least so many digits; the last of a UUID has as many.
const MADE_UP_DIGITS_MIN: usize = 12;

/// BuildKit's ids of layers, and Swarm's, are of so many digits and letters; one in sixty has fewer than three digits.
const ID_CHARS: usize = 25;
const ID_DIGITS_MIN: usize = 3;

/// Whether what is mounted at `point`, below a source that is none of it, comes and goes by itself.
pub(super) fn is_fleeting(point: &Path, source: &Path) -> bool {
    comes_and_goes(point) && !comes_and_goes(source)
}

/// Whether a mount at `point` comes and goes by itself.
pub(super) fn comes_and_goes(point: &Path) -> bool {
    // Where it is no link to the other.
    let point = point.strip_prefix("/var/run").map_or_else(|_| point.to_owned(), |rest| Path::new("/run").join(rest));
    let Some(text) = point.to_str() else { return false };
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    KERNEL.iter().any(|place| point.starts_with(place))
        || PLACES.iter().any(|place| begins(&names, place).is_some())
        || is_engine_mount(&point, &names)
}

fn is_engine_mount(point: &Path, names: &[&str]) -> bool {
    let is_known = ENGINES.iter().any(|place| point.starts_with(place));
    (0..names.len()).any(|at| {
        let rest = names.get(at..).unwrap_or_default();
        ENGINE_MOUNTS.iter().filter_map(|mount| begins(rest, mount)).any(|name| is_known || is_made_up(name))
    })
}

/// What the last `*` of `pattern` is, where `names` begin with it.
fn begins<'a>(names: &[&'a str], pattern: &str) -> Option<&'a str> {
    let mut names = names.iter();
    let mut last = "";
    for wanted in pattern.split('/').filter(|part| !part.is_empty()) {
        let name = names.next()?;
        match wanted {
            "*" => last = name,
            _ if wanted == *name => {}
            _ => return None,
        }
    }
    Some(last)
}

/// Ids of containers, layers and pods: `3f9c0d6be1a2…`, `0b1f0e2c-…`, `k1x0lq0z7cx3x4u7tq2bqv2tt`.
fn is_made_up(name: &str) -> bool {
    let is_hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_of_36 = |name: &str| {
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        let letters = name.bytes().filter(u8::is_ascii_lowercase).count();
        digits + letters == name.len() && digits >= ID_DIGITS_MIN && letters > 0
    };
    (name.len() == ID_CHARS && is_of_36(name))
        || name.split('-').any(|part| part.len() >= MADE_UP_DIGITS_MIN && is_hexadecimal(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_sessions_and_packages_mount_comes_and_goes() {
        let id = "3f9c0d6be1a24b7788f0c9d2e4a6b8135f7092c4d6e8fa0b1c2d3e4f50617283";
        let pod = "0b1f0e2c-6a57-4c53-9d5e-2f1f3c7e9a10";
        for point in [
            "/dev/shm",
            "/proc/sys/fs/binfmt_misc",
            "/sys/fs/cgroup",
            "/run/user/1000",
            "/run/user/1000/gvfs",
            "/var/run/user/1000",
            "/run/netns/blue",
            "/run/docker/netns/1a2b",
            "/run/containerd/io.containerd.runtime.v2.task/moby/x/rootfs",
            "/snap/core20/2318",
            "/var/lib/docker/overlay2/x/merged",
            "/var/lib/docker/rootfs/overlayfs/x",
            "/var/lib/docker/containers/x/mounts/shm",
            "/var/lib/docker/netns/x",
            "/var/lib/docker/plugins/x/rootfs",
            "/var/lib/docker/plugins/x/propagated-mount/volumes/y",
            "/var/lib/containers/storage/overlay/x/merged",
            "/var/lib/containers/storage/overlay-containers/x/userdata/shm",
            "/var/lib/kubelet/pods/x/volumes/kubernetes.io~projected/kube-api-access",
            "/var/lib/kubelet/pods/x/volume-subpaths/config/app/0",
            "/var/lib/kubelet/plugins/kubernetes.io/csi/disk.csi/x/globalmount",
            "/var/lib/rancher/k3s/agent/containerd/tmpmounts/containerd-mount1",
            &format!("/srv/engine/overlay2/{id}/merged"),
            &format!("/srv/engine/overlay2/{id}-init/merged"),
            "/srv/docker/overlay2/k1x0lq0z7cx3x4u7tq2bqv2tt/merged",
            "/srv/docker/buildkit/executor/9h2m0f6x1r5v8c3n7q4t2w0yz/rootfs",
            &format!("/home/me/.local/share/containers/storage/overlay/{id}/merged"),
            &format!("/var/snap/microk8s/common/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~csi/pvc/mount"),
        ] {
            assert!(is_fleeting(Path::new(point), Path::new("/")), "{point}");
        }
    }

    #[test]
    fn a_disk_at_such_a_place_or_under_a_name_that_somebody_gave_is_somebodys() {
        for point in [
            "/var/lib/docker",
            "/var/lib/docker/overlay2",
            "/var/lib/docker/containers",
            "/var/lib/docker/volumes",
            "/var/lib/docker/volumes/photos",
            "/var/lib/docker/volumes/photos/_data",
            "/var/lib/containers",
            "/var/lib/containers/storage",
            "/var/lib/containers/storage/volumes/photos/_data",
            "/var/lib/kubelet",
            "/var/lib/kubelet/pods",
            "/var/lib/kubelet/pods/x",
            "/var/lib/containerd",
            "/run/media/me/usb",
            "/run/media/x",
            "/var/run/media/x",
            "/run/backup",
            "/run/user",
            "/snap",
            "/snap/disk",
            "/srv/overlay/photos/merged",
            "/srv/plugins/photos/rootfs",
            "/srv/pods/2024-11-28-photos/volumes",
            "/srv/overlay2/photosofthewholefamilyand/merged",
            "/srv/overlay2/photos-of-the-family-2024/merged",
            "/srv/overlay2/photosofthefamily2024/merged",
            "/srv/overlay2/photosofthewholefamilies2/merged",
            "/srv/overlay2/k1x0lq0z7cx3x4u7tq2bqv2tt",
            "/srv/merged",
        ] {
            assert!(!is_fleeting(Path::new(point), Path::new("/")), "{point}");
        }
    }

    #[test]
    fn who_names_such_a_place_as_a_source_wants_what_is_mounted_there() {
        let (point, source) = ("/run/user/1000/disk", "/run/user/1000");
        assert!(!is_fleeting(Path::new(point), Path::new(source)));
        assert!(is_fleeting(Path::new("/var/lib/docker/overlay2/x/merged"), Path::new("/var/lib/docker")));
    }
}
