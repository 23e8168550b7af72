//! A bucket that keeps versions and locks them, by moto.

use jiff::{SignedDuration, Timestamp};
use larder::config::model::LockMode;
use larder::storage::S3;
use larder::storage::s3::Lock;

use super::*;

#[test]
fn what_was_deleted_in_a_bucket_with_versions_comes_back_and_a_lock_is_never_loosened() {
    let Some(server) = storages::moto() else { return };
    storages::http(server.port, "PUT", "/vault", &["x-amz-bucket-object-lock-enabled: true"], b"");
    storages::http(server.port, "PUT", "/plain", &[], b"");
    let plain = S3::open(&s3(server.port, "plain", ""), PATIENCE).unwrap();
    assert!(!plain.is_versioned().unwrap());
    let client = S3::open(&s3(server.port, "vault", "repo"), PATIENCE).unwrap();
    assert!(client.is_versioned().unwrap());

    client.put_new("keys/a", b"first").unwrap();
    client.delete("keys/a").unwrap();
    assert_eq!(client.stat("keys/a").unwrap(), None);
    let page = client.versions("keys/", None).unwrap();
    assert_eq!(page.next, None);
    let marker = page.versions.iter().find(|each| each.is_delete_marker).unwrap();
    let version = page.versions.iter().find(|each| !each.is_delete_marker).unwrap();
    assert!(marker.is_latest && !version.is_latest && marker.modified.is_some());
    assert_eq!((version.name.as_str(), version.bytes), ("keys/a", 5));
    client.delete_version("keys/a", &marker.id).unwrap();
    assert_eq!(client.get("keys/a", 100).unwrap().unwrap(), b"first");

    // Locks: longer and harder, never shorter or softer.
    assert_eq!(client.lock_of("keys/a").unwrap(), None);
    let in_days = |days: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
        Timestamp::from_second(at.as_second()).unwrap()
    };
    let lock = |mode, days| Lock { mode, until: in_days(days) };
    let first = lock(LockMode::Governance, 3);
    client.extend_lock("keys/a", first).unwrap();
    assert_eq!(client.lock_of("keys/a").unwrap(), Some(first));
    assert!(matches!(told(client.extend_lock("keys/a", lock(LockMode::Governance, 2))), StorageError::Locked { .. }));
    let hard = lock(LockMode::Compliance, 5);
    client.extend_lock("keys/a", hard).unwrap();
    assert!(matches!(told(client.extend_lock("keys/a", lock(LockMode::Governance, 9))), StorageError::Locked { .. }));
    assert_eq!(client.lock_of("keys/a").unwrap(), Some(hard));
    assert!(matches!(told(client.delete_version("keys/a", &version.id)), StorageError::Denied { .. }));
    assert!(matches!(told(client.lock_of("keys/none")), StorageError::NotFound { .. }));

    // The probe says what a deletion is there.
    let probe = client.probe();
    assert!(probe.trouble().is_none(), "{probe:?}");
    assert!(detail(&probe, Question::Deletable).contains("keeps the version"), "{probe:?}");
}
