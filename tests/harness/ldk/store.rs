//! Where an LDK node keeps what must not be lost: nowhere, or in files, as the crate's own file store does it (a file beside, synced,
//! renamed, its folder synced), with updates of channels beside them (`MonitorUpdatingPersister`).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::io;
use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::sign::{InMemorySigner, KeysManager};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStoreSync, MonitorName, MonitorUpdatingPersister,
};

use super::part::{Broadcasts, Fees, Silent};

/// Updates that are written beside a channel before it is written whole.
const MOST_UPDATES: u64 = 100;

/// Durable key-value pairs: a file each.
pub struct Files {
    folder: PathBuf,
    written: AtomicU64,
}

impl Files {
    fn path(&self, primary: &str, secondary: &str, key: &str) -> PathBuf {
        self.folder.join(primary).join(secondary).join(key)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().expect("it is below the store's folder");
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension(format!("{}.new", self.written.fetch_add(1, Ordering::Relaxed)));
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    }
}

impl KVStoreSync for Files {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> io::Result<Vec<u8>> {
        Ok(fs::read(self.path(primary, secondary, key))?)
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, bytes: Vec<u8>) -> io::Result<()> {
        Ok(self.put(&self.path(primary, secondary, key), &bytes)?)
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, _lazy: bool) -> io::Result<()> {
        match fs::remove_file(self.path(primary, secondary, key)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn list(&self, primary: &str, secondary: &str) -> io::Result<Vec<String>> {
        let folder = self.folder.join(primary).join(secondary);
        let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
        let files = entries.filter_map(Result::ok).filter(|entry| entry.path().is_file());
        Ok(files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

type Channels =
    MonitorUpdatingPersister<Arc<Files>, Arc<Silent>, Arc<KeysManager>, Arc<KeysManager>, Arc<Broadcasts>, Arc<Fees>>;

/// Keeps nothing: such a node is never restarted.
pub struct NoStore;

impl<S: EcdsaChannelSigner> Persist<S> for NoStore {
    fn persist_new_channel(&self, _name: MonitorName, _monitor: &ChannelMonitor<S>) -> ChannelMonitorUpdateStatus {
        ChannelMonitorUpdateStatus::Completed
    }

    fn update_persisted_channel(
        &self,
        _name: MonitorName,
        _update: Option<&ChannelMonitorUpdate>,
        _monitor: &ChannelMonitor<S>,
    ) -> ChannelMonitorUpdateStatus {
        ChannelMonitorUpdateStatus::Completed
    }

    fn archive_persisted_channel(&self, _name: MonitorName) {}
}

/// See the file's map.
pub enum Store {
    /// Such a node is never restarted.
    Nothing,
    /// All that it tells others is on disk before.
    Files(Arc<Files>, Box<Channels>),
}

impl Store {
    /// In this folder.
    pub(super) fn files(
        folder: &Path,
        keys: &Arc<KeysManager>,
        broadcasts: &Arc<Broadcasts>,
        fees: &Arc<Fees>,
        logger: &Arc<Silent>,
    ) -> Store {
        let files = Arc::new(Files { folder: folder.to_owned(), written: AtomicU64::new(0) });
        let (keys, fees) = (|| Arc::clone(keys), Arc::clone(fees));
        let (broadcasts, logger) = (Arc::clone(broadcasts), Arc::clone(logger));
        let channels =
            MonitorUpdatingPersister::new(files.clone(), logger, MOST_UPDATES, keys(), keys(), broadcasts, fees);
        Store::Files(files, Box::new(channels))
    }

    /// Keeps what the node knows beside its channels.
    pub(super) fn keep(&self, bytes: impl FnOnce() -> Vec<u8>) {
        if let Store::Files(files, _) = self {
            let (primary, secondary) =
                (CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE);
            files.write(primary, secondary, CHANNEL_MANAGER_PERSISTENCE_KEY, bytes()).expect("the disk takes it");
        }
    }
}

impl Persist<InMemorySigner> for Store {
    fn persist_new_channel(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        match self {
            Store::Nothing => NoStore.persist_new_channel(name, monitor),
            Store::Files(_, channels) => channels.persist_new_channel(name, monitor),
        }
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        match self {
            Store::Nothing => NoStore.update_persisted_channel(name, update, monitor),
            Store::Files(_, channels) => channels.update_persisted_channel(name, update, monitor),
        }
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        if let Store::Files(_, channels) = self {
            Persist::<InMemorySigner>::archive_persisted_channel(&**channels, name);
        }
    }
}
