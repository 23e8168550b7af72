//! What is there to be kept: what `larder init` and the daemon see of an engine or a server, and the targets for it.

pub(crate) mod derive;
pub(crate) mod docker;
pub(crate) mod postgres;
