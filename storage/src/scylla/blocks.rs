//! Blocks: pages under a block and a group of their numbers, their first keys in an index, manifests, the
//! map and the edges.
//!
//! A partition of pages holds 256 of them: about 8 MiB, and 64 where every entry is as large as one can
//! be. The index of a block has a row a page. The same block always gets the same bytes, so writes have
//! no time of their own; the map is decided by compare-and-set.

use domain::{
    BlockStore, Epoch, LogId, Offset, RowKey, SegmentId, Tenant,
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    store::{PartitionKey, StoreError},
    usage::ResourceKey,
};

use super::{
    client::Client,
    error::{Failure, damaged, signed},
    rows, tenants,
    usage::ScyllaUsageStore,
};
use crate::{
    answers::{another_map, number_of},
    order::{bytes_of, places_of},
};

/// Pages in a partition.
const GROUP_PAGES: u32 = 256;

impl BlockStore for ScyllaUsageStore {
    async fn block_map(&self) -> Result<BlockMap, StoreError> {
        Ok(map(&self.client).await?)
    }

    async fn replace_block_map(&self, next: &BlockMap) -> Result<(), StoreError> {
        Ok(replace_map(&self.client, next).await?)
    }

    async fn block_marks(&self, log_id: LogId) -> Result<Vec<Vec<Offset>>, StoreError> {
        let link = &self.client.link;
        let found: Vec<(Vec<u8>,)> =
            link.read(&self.client.statements.block_marks, (log_id.0.as_slice(),)).await?;
        found.into_iter().map(|(places,)| places_of(&places)).collect()
    }

    async fn put_block_mark(
        &self,
        log_id: LogId,
        number: u64,
        edge: &[Offset],
    ) -> Result<(), StoreError> {
        let values = (log_id.0.as_slice(), number_of("edge", number)?, bytes_of(edge));
        self.client.link.decide(&self.client.statements.insert_block_mark, values).await?;
        Ok(())
    }

    async fn write_block_pages(
        &self,
        block: BlockNumber,
        pages: Vec<Page>,
        names: Vec<Tenant>,
    ) -> Result<(), StoreError> {
        Ok(write_pages(&self.client, block, &pages, names).await?)
    }

    async fn write_block_manifest(
        &self,
        block: BlockNumber,
        manifest: &BlockManifest,
    ) -> Result<(), StoreError> {
        let values = (number_of("block", block)?, manifest.encode());
        Ok(self.client.link.write(&self.client.statements.insert_block_manifest, values).await?)
    }

    async fn block_manifest(
        &self,
        block: BlockNumber,
    ) -> Result<Option<BlockManifest>, StoreError> {
        let values = (number_of("block", block)?,);
        let found: Option<(Vec<u8>,)> =
            self.client.link.read_one(&self.client.statements.block_manifest, values).await?;
        let decoded = found.map(|(cell,)| BlockManifest::decode(&cell)).transpose();
        Ok(decoded.map_err(Failure::from)?)
    }

    async fn find_block_page(&self, block: BlockNumber, key: &[u8]) -> Result<u32, StoreError> {
        let values = (number_of("block", block)?, key);
        let found: Option<(i32,)> =
            self.client.link.read_one(&self.client.statements.find_block_page, values).await?;
        Ok(found.map_or(0, |(number,)| number.unsigned_abs()))
    }

    async fn block_pages(
        &self,
        block: BlockNumber,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Page>, StoreError> {
        Ok(pages(&self.client, block, from, limit).await?)
    }

    async fn stored_blocks(&self) -> Result<Vec<BlockNumber>, StoreError> {
        let link = &self.client.link;
        let found: Vec<(i64,)> = link.read(&self.client.statements.stored_blocks, ()).await?;
        let mut found: Vec<u64> = found.into_iter().map(|(block,)| block.unsigned_abs()).collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn delete_block(&self, block: BlockNumber) -> Result<bool, StoreError> {
        Ok(delete(&self.client, block).await?)
    }

    async fn delete_rows(&self, rows: Vec<RowKey>) -> Result<(), StoreError> {
        Ok(delete_rows(&self.client, &rows).await?)
    }

    /// States stay: nothing here is written in one transaction with the manifest that names it.
    async fn keep_states(&self, _: Vec<u128>, _: Vec<SegmentId>) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn delete_epoch(&self, _: LogId, _: Epoch) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn runs_below(&self, _: PartitionKey, _: Offset) -> Result<Vec<Offset>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_run(&self, _: SegmentId) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn map(client: &Client) -> Result<BlockMap, Failure> {
    let found: Option<(i64, Vec<u8>)> =
        client.link.read_one(&client.statements.block_map, ()).await?;
    decode(found)
}

fn decode(found: Option<(i64, Vec<u8>)>) -> Result<BlockMap, Failure> {
    let Some((version, bytes)) = found else { return Ok(BlockMap::default()) };
    let version = u64::try_from(version).map_err(|_| damaged("version", version))?;
    Ok(BlockMap::decode(version, &bytes)?)
}

async fn replace_map(client: &Client, next: &BlockMap) -> Result<(), Failure> {
    let version = number_of("version", next.version)?;
    let statements = &client.statements;
    let stored = decode(client.link.read_one(&statements.decided_block_map, ()).await?)?;
    if stored.version + 1 != next.version {
        return Err(another_map(next.version).into());
    }
    // Without a map there is no version yet.
    let before = (version > 1).then_some(version - 1);
    client.link.decide(&statements.replace_block_map, (version, next.encode(), before)).await?;
    // Whether it was done is seen by looking again, whatever the answer.
    let after = decode(client.link.read_one(&statements.decided_block_map, ()).await?)?;
    if after == *next { Ok(()) } else { Err(another_map(next.version).into()) }
}

async fn write_pages(
    client: &Client,
    block: BlockNumber,
    pages: &[Page],
    names: Vec<Tenant>,
) -> Result<(), Failure> {
    let block = number_of("block", block)?;
    let mut writes = client.link.writes();
    for Page { number, bytes, .. } in pages {
        let values = (block, group(*number), number.cast_signed(), bytes);
        writes.add(client.link.write(&client.statements.insert_block_page, values)).await?;
    }
    writes.finish().await?;
    let mut writes = client.link.writes();
    for Page { number, first, .. } in pages {
        let values = (block, first.as_bytes(), number.cast_signed());
        writes.add(client.link.write(&client.statements.insert_block_first, values)).await?;
    }
    writes.finish().await?;
    tenants::write_names(client, names).await
}

fn group(page: u32) -> i32 {
    (page / GROUP_PAGES).cast_signed()
}

async fn pages(
    client: &Client,
    block: BlockNumber,
    from: u32,
    limit: usize,
) -> Result<Vec<Page>, Failure> {
    let block = number_of("block", block)?;
    let (mut found, mut next) = (Vec::new(), from);
    while found.len() < limit {
        let most = i32::try_from(limit - found.len()).unwrap_or(i32::MAX);
        let values = (block, group(next), next.cast_signed(), most);
        let statement = &client.statements.block_pages;
        let rows: Vec<(i32, Vec<u8>)> = client.link.read(statement, values).await?;
        if rows.is_empty() {
            break;
        }
        for (number, bytes) in rows {
            next = number.unsigned_abs() + 1;
            let first = domain::blocks::page::first_key(&bytes)?;
            found.push(Page { number: number.unsigned_abs(), first, bytes });
        }
    }
    Ok(found)
}

async fn delete(client: &Client, block: BlockNumber) -> Result<bool, Failure> {
    let block = number_of("block", block)?;
    let (link, statements) = (&client.link, &client.statements);
    link.write(&statements.delete_block_manifest, (block,)).await?;
    // The last page says how many groups there are; the index goes when they are gone.
    let last: Option<(i32,)> = link.read_one(&statements.last_block_page, (block,)).await?;
    let Some((last,)) = last else { return Ok(false) };
    for group in 0..=group(last.unsigned_abs()) {
        link.write(&statements.delete_block_group, (block, group)).await?;
    }
    link.write(&statements.delete_block_firsts, (block,)).await?;
    Ok(false)
}

/// A deletion has the time of the servers, which is behind that of every row, also of one that comes late.
async fn delete_rows(client: &Client, keys: &[RowKey]) -> Result<(), Failure> {
    let mut writes = client.link.writes();
    for key in keys {
        let RowKey { resource, window_start, segment } = key;
        let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
        let SegmentId { log_id, partition, epoch, start } = *segment;
        let values = (
            tenant.as_str(),
            rows::date(key.window_day()),
            rows::millis_from(*window_start),
            product_sku.as_str(),
            use_unity.as_str(),
            dimensions.as_str(),
            i32::from(epoch.0),
            log_id.0.to_vec(),
            i32::from(partition.0),
            signed(start)?,
        );
        writes.add(client.link.write(&client.statements.delete_row, values)).await?;
    }
    writes.finish().await.map(drop)
}
