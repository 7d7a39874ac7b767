/** A journal over plain memory, no filesystem around it: blocks 0-99 are anyone's, the log lies behind them. */
import type { IoStep } from '../../src/block/device.js';
import { ownView } from '../../src/codec/view.js';
import type { FsError } from '../../src/errors.js';
import { BlockCache, type BlockKind } from '../../src/jbd2/block-cache.js';
import { BlockType, JBD2_MAGIC, JOURNAL_SUPERBLOCK } from '../../src/jbd2/format.js';
import { Journal } from '../../src/jbd2/journal.js';
import { JournalSuperblock } from '../../src/jbd2/journal-superblock.js';
import { Log } from '../../src/jbd2/log.js';
import { CountingDevice } from './counting-device.js';

export const BLOCK_SIZE = 1024;
export const HOME_BLOCKS = 100;
export const PLAIN: BlockKind = { name: 'test block' };

/** An image whose log of `logBlocks` blocks is empty and expects `sequence` next. */
export function flatImage(logBlocks: number, sequence = 1): Uint8Array {
  const image = new Uint8Array((HOME_BLOCKS + logBlocks) * BLOCK_SIZE);
  const view = ownView(image.subarray(HOME_BLOCKS * BLOCK_SIZE));
  JOURNAL_SUPERBLOCK.h_magic.set(view, 0, JBD2_MAGIC);
  JOURNAL_SUPERBLOCK.h_blocktype.set(view, 0, BlockType.SUPERBLOCK_V2);
  JOURNAL_SUPERBLOCK.s_blocksize.set(view, 0, BLOCK_SIZE);
  JOURNAL_SUPERBLOCK.s_maxlen.set(view, 0, logBlocks);
  JOURNAL_SUPERBLOCK.s_first.set(view, 0, 1);
  JOURNAL_SUPERBLOCK.s_sequence.set(view, 0, sequence);
  return image;
}

export interface FlatJournal {
  readonly device: CountingDevice;
  readonly cache: BlockCache;
  readonly journal: Journal;
  readonly log: Log;
  readonly aborts: FsError[];
  /** Fills a home block with one byte, in a step of its own. */
  put(nr: number, value: number): void;
}

export function openFlatJournal(image: Uint8Array, device = new CountingDevice(image)): FlatJournal {
  const logBlocks = image.length / BLOCK_SIZE - HOME_BLOCKS;
  const bytes = image.slice(HOME_BLOCKS * BLOCK_SIZE, HOME_BLOCKS * BLOCK_SIZE + 1024);
  const map = Float64Array.from({ length: logBlocks }, (_, i) => HOME_BLOCKS + i);
  const log = new Log(device, new JournalSuperblock(bytes, BLOCK_SIZE, logBlocks), map);
  const cache = new BlockCache(device, BLOCK_SIZE);
  const aborts: FsError[] = [];
  const journal = new Journal(
    log,
    cache,
    {
      monotonicMs: () => 0,
      now: () => ({ seconds: 1_700_000_000, nanoseconds: 0 }),
      schedule: () => () => {},
      beforeFirstCommit: (): IoStep[] => {
        log.prepareForWriting({ is64bit: true, metadataCsum: true });
        return [];
      },
      committed: () => {},
      aborted: (error) => aborts.push(error),
    },
    { commitIntervalMs: 5000 },
  );
  return {
    device,
    cache,
    journal,
    log,
    aborts,
    put(nr, value) {
      journal.run(1, (handle) => {
        const block = handle.getWriteAccess(cache.read(nr, PLAIN));
        block.bytes.fill(value);
        handle.dirtyMetadata(block);
      });
    },
  };
}
