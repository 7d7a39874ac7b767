/**
 * Fast commits become an ordinary transaction. Applying them is no single write, and the log does not hold what they
 * change: so what they come to is computed in memory, and logged with the tid that they are on top of. In order, each
 * step durable before the next, after all transactions before it are home:
 *
 *   1. the journal superblock with the tail behind those transactions: the log is free, and the fast commits still count;
 *   2. descriptors and copies of the changed blocks;
 *   3. the commit block. From here on the log has a transaction of that tid, and the fast commits are void.
 *
 * A crash before 3 leaves the fast commits to be replayed again from the same state; one after it, a log like any other.
 */
import { OverlayDevice } from '../block/overlay-device.js';
import { readView } from '../codec/view.js';
import { UnsupportedError } from '../errors.js';
import { Log } from '../jbd2/log.js';
import type { LogSource } from '../jbd2/log-walker.js';
import { RecordWriter } from '../jbd2/record-writer.js';
import type { RecoveryInfo } from '../jbd2/recovery.js';
import type { FastCommits } from './fast-commit-area.js';
import { replayFastCommits } from './fast-commit-replay.js';
import { INCOMPAT } from './features.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from './format/superblock.js';
import { type Environment, Geometry } from './volume.js';

/** A block as it is once the fast commits are replayed. */
export interface ChangedBlock {
  readonly nr: number;
  readonly bytes: Uint8Array;
}

/**
 * What the fast commits change on top of `replayed`, on which the log has been replayed in memory. Throws as
 * replayFastCommits, and UnsupportedError for more blocks than the log has room for.
 */
export function changesOfFastCommits(
  replayed: OverlayDevice,
  source: LogSource,
  found: FastCommits,
  env: Environment,
): ChangedBlock[] {
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  replayed.read(SUPERBLOCK_OFFSET, bytes);
  const geometry = new Geometry(readView(bytes), bytes, replayed.sizeBytes);
  const changed = new OverlayDevice(replayed);
  replayFastCommits(changed, geometry, source, found, env);
  const { blockSize } = geometry;
  const blocks = changed.writtenBlocks(blockSize).map((nr) => {
    const block = new Uint8Array(blockSize);
    changed.read(nr * blockSize, block);
    return { nr, bytes: block };
  });
  const log = logFor(source, geometry);
  if (log.blocksFor(blocks.length, 0) > log.capacity) {
    throw new UnsupportedError(
      `the fast commits change ${blocks.length} blocks, the log has room for fewer (${log.capacity}): run e2fsck`,
      ['fast_commit'],
    );
  }
  return blocks;
}

function logFor(source: LogSource, geometry: Geometry): Log {
  const log = new Log(source.device, source.superblock, source.blockMap);
  log.prepareForWriting({
    is64bit: (geometry.incompat & INCOMPAT['64bit']) !== 0,
    metadataCsum: geometry.metadataCsum,
  });
  return log;
}

/** Steps 1 to 3. The transactions that `info` found are home, durably. */
export function logFastCommits(
  source: LogSource,
  geometry: Geometry,
  info: RecoveryInfo,
  blocks: readonly ChangedBlock[],
  env: Environment,
): void {
  const log = logFor(source, geometry);
  log.head = info.endLogBlock;
  const { shape } = log;
  const writer = new RecordWriter(shape, info.endTid, shape.logBlocks(blocks.length, 0));
  for (let i = 0; i < blocks.length; i += shape.tagsPerDescriptor) {
    writer.descriptorWithBlocks(blocks.slice(i, i + shape.tagsPerDescriptor));
  }
  const commitAt = writer.blocksWritten;
  writer.commitBlock(env.now());
  const commitOffset = commitAt * log.blockSize;
  const steps = [
    ...log.begin(info.endTid),
    ...log.writeSteps(log.head, writer.buffer.subarray(0, commitOffset)),
    { kind: 'flush' } as const,
    ...log.writeSteps(log.wrap(log.head + commitAt), writer.buffer.subarray(commitOffset)),
    { kind: 'flush' } as const,
  ];
  for (const step of steps) {
    if (step.kind === 'flush') source.device.flush();
    else source.device.write(step.offsetBytes, step.bytes);
  }
}
