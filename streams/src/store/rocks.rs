//! The back end on disk: one RocksDB for the process, a column family for each store.
//!
//! Why: one database means one block cache and one budget for memtables, so memory is a setting and
//! not a product of stores and partitions.
//!
//! Invariants
//! * the write-ahead log is off: durability comes from the changelog, and what counts as written is
//!   what a memtable flush has put on disk.
//! * a batch goes into one memtable of one column family as a whole, and memtables reach the disk
//!   in order. So each store keeps a prefix of its batches, each its own: nothing that must be
//!   atomic may lie in two column families.
//! * column families that nobody names are opened as they are and never dropped.
//!
//! On crash: unflushed memtables are gone; RocksDB recovers the rest by itself.
//! Reference: RocksDB `DB::Write`, `WriteBufferManager`; Kafka Streams `RocksDBStore` (WAL off too).

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor,
    DBCompressionType, DBWithThreadMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, LogLevel,
    MultiThreaded, Options, ReadOptions, ReadTier, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::{Backend, ByteStore, StoreError, Visit};
use crate::ids::StoreName;

pub(crate) mod killed;

const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Size of a part of an index or a filter.
const METADATA_BLOCK_BYTES: usize = 4096;
/// What an entry of a batch, or its header, takes besides key and value: a tag and three varints.
const ENTRY_BYTES_MAX: usize = 16;
const OPEN_FILES_MAX: i32 = 512;
const INFO_LOG_BYTES_MAX: usize = 1024 * 1024;

type Database = DBWithThreadMode<MultiThreaded>;

/// Memory of the database, for all stores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RocksBudget {
    /// Blocks, indexes and filters that are kept in memory, in bytes. Default 64 MiB.
    pub block_cache_bytes: usize,
    /// Memtables of all stores together, in bytes. Default 64 MiB.
    pub write_buffer_bytes: usize,
}

impl Default for RocksBudget {
    fn default() -> Self {
        RocksBudget { block_cache_bytes: 64 * 1024 * 1024, write_buffer_bytes: 64 * 1024 * 1024 }
    }
}

/// The stores in one directory. Clones share the database; the last one closes it.
#[derive(Clone)]
pub(crate) struct RocksBackend {
    database: Arc<Database>,
    options: Options,
    /// Looking for a column family and creating it is one step.
    creating: Arc<Mutex<()>>,
}

impl RocksBackend {
    /// Opens the database in `dir`, with all stores that are in it, or creates it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: the directory cannot be used, is locked by another process, or its
    /// database is damaged. Recourse: mend the cause, or delete the directory: it is rebuilt from
    /// the changelogs.
    pub(crate) fn open(dir: &Path, budget: &RocksBudget) -> Result<Self, StoreError> {
        let options = store_options(budget);
        let database_options = database_options(budget);
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Io {
            operation: "create",
            path: dir.to_owned(),
            source,
        })?;
        let opened = existing_stores(&database_options, dir).and_then(|names| {
            let family = |name| ColumnFamilyDescriptor::new(name, options.clone());
            let families: Vec<_> = names.into_iter().map(family).collect();
            Database::open_cf_descriptors(&database_options, dir, families)
        });
        let database = opened.map_err(|error| StoreError::Io {
            operation: "open the state in",
            path: dir.to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(RocksBackend {
            database: Arc::new(database),
            options,
            creating: Arc::new(Mutex::new(())),
        })
    }
}

/// A new database has one column family too, which would get other options if it were not named.
fn existing_stores(options: &Options, dir: &Path) -> Result<Vec<String>, rocksdb::Error> {
    if dir.join("CURRENT").exists() {
        Database::list_cf(options, dir)
    } else {
        Ok(vec![DEFAULT_COLUMN_FAMILY_NAME.to_owned()])
    }
}

fn database_options(budget: &RocksBudget) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    // Not allowed to stall: a flush that waits would hold back the flushes of other stores too.
    let buffers = WriteBufferManager::new_write_buffer_manager(budget.write_buffer_bytes, false);
    options.set_write_buffer_manager(&buffers);
    options
}

/// The options of every column family; copies of them share the one block cache.
fn store_options(budget: &RocksBudget) -> Options {
    let cache = Cache::new_lru_cache(budget.block_cache_bytes);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // In parts: a whole filter of a large file is larger than a shard of the cache, is never kept
    // there, and would be read again at each lookup.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(budget.write_buffer_bytes);
    options
}

impl Backend for RocksBackend {
    fn open(&self, names: &[StoreName]) -> Result<Vec<Arc<dyn ByteStore>>, StoreError> {
        let _creating = self.creating.lock();
        let mut opened: Vec<Arc<dyn ByteStore>> = Vec::with_capacity(names.len());
        for name in names {
            let store = RocksStore { database: Arc::clone(&self.database), name: name.clone() };
            if self.database.cf_handle(name.as_str()).is_none() {
                let created = self.database.create_cf(name.as_str(), &self.options);
                created.map_err(|error| store.error("create", &error))?;
            }
            opened.push(Arc::new(store));
        }
        Ok(opened)
    }
}

impl fmt::Debug for RocksBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBackend").field("dir", &self.database.path()).finish_non_exhaustive()
    }
}

struct RocksStore {
    database: Arc<Database>,
    name: StoreName,
}

impl RocksStore {
    fn error(&self, operation: &'static str, error: &rocksdb::Error) -> StoreError {
        let (store, reason) = (self.name.clone(), error.to_string());
        match error.kind() {
            ErrorKind::Corruption => StoreError::Corrupt { store, reason },
            _ => StoreError::Backend { store, operation, reason },
        }
    }

    fn family(&self, operation: &'static str) -> Result<Arc<BoundColumnFamily<'_>>, StoreError> {
        self.database.cf_handle(self.name.as_str()).ok_or_else(|| StoreError::Backend {
            store: self.name.clone(),
            operation,
            reason: "its column family is gone".to_owned(),
        })
    }

    fn write_batch(&self, operation: &'static str, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_memtable_insert_hint_per_batch(true);
        self.database.write_opt(batch, &options).map_err(|error| self.error(operation, &error))
    }
}

impl ByteStore for RocksStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let family = self.family("get")?;
        self.database.get_cf(&family, key).map_err(|error| self.error("get", &error))
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let family = self.family("get")?;
        let mut options = ReadOptions::default();
        // Without a write-ahead log this passes over the memtables.
        options.set_read_tier(ReadTier::Persisted);
        let value = self.database.get_cf_opt(&family, key, &options);
        value.map_err(|error| self.error("get", &error))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let family = self.family("scan")?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut rows = self.database.raw_iterator_cf_opt(&family, options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if let ControlFlow::Break(()) = visit(key, value) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.error("scan", &error))
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let family = self.family("scan")?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mut rows = self.database.raw_iterator_cf_opt(&family, options);
        rows.seek_to_last();
        while let Some((key, value)) = rows.item() {
            if let ControlFlow::Break(()) = visit(key, value) {
                return Ok(());
            }
            rows.prev();
        }
        rows.status().map_err(|error| self.error("scan", &error))
    }

    fn write(&self, rows: &[(Bytes, Option<Bytes>)]) -> Result<(), StoreError> {
        let family = self.family("write")?;
        // With room for all of it, or else it is copied each time that it has doubled.
        let row_bytes = |(key, value): &(Bytes, Option<Bytes>)| {
            ENTRY_BYTES_MAX + key.len() + value.as_ref().map_or(0, Bytes::len)
        };
        let room = ENTRY_BYTES_MAX + rows.iter().map(row_bytes).sum::<usize>();
        let mut batch = WriteBatch::with_capacity_bytes(room);
        for (key, value) in rows {
            match value {
                Some(value) => batch.put_cf(&family, key, value),
                None => batch.delete_cf(&family, key),
            }
        }
        self.write_batch("write", batch)
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let family = self.family("clear")?;
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(&family, from, to);
        self.write_batch("clear", batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let family = self.family("sync")?;
        self.database.flush_cf(&family).map_err(|error| self.error("sync", &error))
    }
}

#[cfg(test)]
mod tests;
