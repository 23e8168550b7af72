//! The config in force, one record a document, so a change writes what changed.

use serde::de::DeserializeOwned;

use super::ledger::{Ledger, parse};
use super::{Batch, StoreError, Tree};
use crate::config::model::{Config, Destination, Policy, Site, Target};
use crate::types::Name;

const SITE_KEY: &str = "site";
const DESTINATION: &str = "destination/";
const POLICY: &str = "policy/";
const TARGET: &str = "target/";

impl Ledger {
    /// The config in force; the default one when there is none yet.
    ///
    /// A document that cannot be understood is left out with a warning: the next reconciliation writes it again.
    ///
    /// # Errors
    /// When the store cannot be read, or the site cannot be understood (defaults would move the artifacts elsewhere).
    pub fn desired(&self) -> Result<Config, StoreError> {
        let site: Option<Site> = self.record(Tree::Desired, SITE_KEY.as_bytes())?;
        Ok(Config {
            site: site.unwrap_or_default(),
            destinations: self.documents(DESTINATION)?,
            policies: self.documents(POLICY)?,
            targets: self.documents(TARGET)?,
        })
    }

    fn documents<T: DeserializeOwned>(&self, kind: &str) -> Result<std::collections::BTreeMap<Name, T>, StoreError> {
        let mut found = std::collections::BTreeMap::new();
        self.each(Tree::Desired, kind.as_bytes(), |key, value| {
            let name = key
                .get(kind.len()..)
                .and_then(|name| std::str::from_utf8(name).ok())
                .and_then(|name| Name::parse(name).ok());
            if let (Some(name), Some(document)) = (name, parse::<T>(Tree::Desired, key, value)) {
                found.insert(name, document);
            }
        })?;
        Ok(found)
    }
}

impl Batch {
    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn put_desired_site(&mut self, site: &Site) -> Result<(), StoreError> {
        self.put_json(Tree::Desired, SITE_KEY, site)
    }

    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn put_desired_destination(&mut self, destination: &Destination) -> Result<(), StoreError> {
        self.put_json(Tree::Desired, format!("{DESTINATION}{}", destination.name), destination)
    }

    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn put_desired_policy(&mut self, policy: &Policy) -> Result<(), StoreError> {
        self.put_json(Tree::Desired, format!("{POLICY}{}", policy.name), policy)
    }

    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn put_desired_target(&mut self, target: &Target) -> Result<(), StoreError> {
        self.put_json(Tree::Desired, format!("{TARGET}{}", target.name), target)
    }

    pub fn remove_desired_site(&mut self) {
        self.remove(Tree::Desired, SITE_KEY);
    }

    pub fn remove_desired_destination(&mut self, name: &Name) {
        self.remove(Tree::Desired, format!("{DESTINATION}{name}"));
    }

    pub fn remove_desired_policy(&mut self, name: &Name) {
        self.remove(Tree::Desired, format!("{POLICY}{name}"));
    }

    pub fn remove_desired_target(&mut self, name: &Name) {
        self.remove(Tree::Desired, format!("{TARGET}{name}"));
    }
}
