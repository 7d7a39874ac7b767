/**
 * Faults put into the engine on purpose, one at a time: an order of writes broken, a record left out. The harness must
 * notice each. They are put in from outside, so that the engine has no switches for being wrong.
 */

import type { BlockDevice, IoStep } from '../../../src/block/device.js';
import { RecordingDevice } from '../../../src/crash/recording-device.js';
import { StateImage } from '../../../src/crash/state-image.js';
import { FastCommitTracker } from '../../../src/ext4/fast-commit-tracker.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { Inode } from '../../../src/ext4/inode.js';
import { OP_WRITE, TYPE_UNWRITTEN } from '../../../src/ext4/iomap.js';
import { Quotas } from '../../../src/ext4/quota/quotas.js';
import { Checkpoints } from '../../../src/jbd2/checkpoints.js';
import { FastArea } from '../../../src/jbd2/fast-area.js';
import { FileData } from '../../../src/jbd2/file-data.js';
import { BlockType, JBD2_MAGIC } from '../../../src/jbd2/format.js';
import { Handle } from '../../../src/jbd2/handle.js';
import { Journal } from '../../../src/jbd2/journal.js';
import { RevokeTable } from '../../../src/jbd2/revoke-table.js';
import type { Command } from './commands.js';

export interface Mutation {
  readonly name: string;
  /** Shows only when the log wraps around. */
  readonly aged?: boolean;
  /** Shows without a crash: in the order of the writes, or to a reader. */
  readonly recordOnly?: boolean;
  /** Shows on this format; by default on `1k`. */
  readonly format?: string;
  /** Commands that are likely to show it. */
  readonly ops?: readonly Command['op'][];
  /** Shows when the recovery crashes as well. */
  readonly nestedEach?: number;
  /** Puts the fault in; returns what takes it out. */
  readonly apply: () => () => void;
}

/** Replaces a method. The types of a fault are its own business. */
function patch(prototype: object, name: string, replacement: (this: never, ...args: never[]) => unknown): () => void {
  const target = prototype as Record<string, unknown>;
  const original = target[name];
  if (typeof original !== 'function')
    throw new Error(`there is no method ${name} any more: this mutation needs another place`);
  target[name] = replacement;
  return () => {
    target[name] = original;
  };
}

function patchSteps(change: (steps: readonly IoStep[]) => readonly IoStep[]): () => void {
  const original = RecordingDevice.prototype.submit;
  return patch(RecordingDevice.prototype, 'submit', function (
    this: RecordingDevice,
    steps: readonly IoStep[],
    done: Parameters<BlockDevice['submit']>[1],
  ) {
    return original.call(this, change(steps), done);
  } as never);
}

function recordType(step: IoStep): number {
  if (step.kind !== 'write' || step.bytes.length < 12) return 0;
  const view = new DataView(step.bytes.buffer, step.bytes.byteOffset, 12);
  return view.getUint32(0) === JBD2_MAGIC ? view.getUint32(4) : 0;
}

const isCommit = (steps: readonly IoStep[]) => steps.some((step) => recordType(step) === BlockType.COMMIT);
const isTail = (step: IoStep) =>
  recordType(step) === BlockType.SUPERBLOCK_V2 || recordType(step) === BlockType.SUPERBLOCK_V1;
/** A checkpoint ends with the journal superblock and a flush. */
const isCheckpoint = (steps: readonly IoStep[]) => !isCommit(steps) && steps.some(isTail);
const without = <T>(items: readonly T[], at: number): T[] => items.filter((_, i) => i !== at);
const flushBefore = (steps: readonly IoStep[], at: number): number =>
  steps.findLastIndex((step, i) => i < at && step.kind === 'flush');

/** Blocks of directories, attributes and long links become free, and file data. */
const METADATA_THEN_DATA: readonly Command['op'][] = [
  'mkdir',
  'rmdir',
  'setxattr',
  'unlink',
  'symlink',
  'write',
  'append',
  'commit',
  'syncfs',
  'steps',
  'checkpoint',
];

/** What fast commits can say. */
const FAST_COMMITTED: readonly Command['op'][] = [
  'create',
  'write',
  'append',
  'truncate',
  'punch',
  'rename',
  'link',
  'unlink',
  'fsync',
  'steps',
];

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'space counted for its owner in a handle of its own',
    format: '1k-quota',
    apply: () => {
      const { addSpace } = Quotas.prototype;
      return patch(Quotas.prototype, 'addSpace', function (
        this: Quotas,
        _handle: Handle,
        { vol, ino }: Inode,
        bytes: number,
      ) {
        queueMicrotask(() => {
          if (vol.journal.aborted === null)
            vol.journal.run(1, (handle) => addSpace.call(this, handle, Inode.load(vol, ino), bytes));
        });
      } as never);
    },
  },
  {
    name: 'no flush between the log blocks and the commit block',
    apply: () =>
      patchSteps((steps) => {
        const commit = steps.findIndex((step) => recordType(step) === BlockType.COMMIT);
        return commit < 0 ? steps : without(steps, flushBefore(steps, commit));
      }),
  },
  {
    name: 'no flush after the commit block',
    apply: () => patchSteps((steps) => (isCommit(steps) ? steps.slice(0, -1) : steps)),
  },
  {
    name: 'the commit block before the log blocks',
    apply: () =>
      patchSteps((steps) => {
        const commit = steps.findIndex((step) => recordType(step) === BlockType.COMMIT);
        return commit < 0 ? steps : [steps[commit], { kind: 'flush' }, ...without(steps, commit)];
      }),
  },
  {
    name: 'no flush between the home writes and the tail',
    apply: () =>
      patchSteps((steps) =>
        isCheckpoint(steps) ? without(steps, flushBefore(steps, steps.findIndex(isTail))) : steps,
      ),
  },
  {
    name: 'the tail before the home writes',
    apply: () =>
      patchSteps((steps) => {
        const tail = steps.findIndex(isTail);
        return isCheckpoint(steps) ? [steps[tail], { kind: 'flush' }, ...without(steps, tail)] : steps;
      }),
  },
  {
    // With a log that is emptied when half full the space is never needed so soon.
    name: 'no flush between the tail and the use of the log space that it frees',
    aged: true,
    apply: () => {
      const noFlush = patchSteps((steps) => (isCheckpoint(steps) ? steps.slice(0, -1) : steps));
      const onlyWhenFull = patch(Checkpoints.prototype, 'isDue', (() => false) as never);
      return () => {
        noFlush();
        onlyWhenFull();
      };
    },
  },
  {
    name: 'needs_recovery not written before the first commit',
    apply: () => patchSteps((steps) => (isCommit(steps) && isTail(steps[1] ?? steps[0]) ? steps.slice(1) : steps)),
  },
  {
    name: 'revoke records left out',
    ops: METADATA_THEN_DATA,
    apply: () =>
      patch(Handle.prototype, 'revoke', function (this: Handle, nr: number) {
        this.forget(nr);
      } as never),
  },
  {
    name: 'freed blocks and inodes used again before the commit',
    apply: () =>
      patch(Handle.prototype, 'onCommit', ((action: () => void) => {
        action();
      }) as never),
  },
  {
    name: 'freed blocks used again while they are being read',
    recordOnly: true,
    ops: ['write', 'slow-read', 'punch', 'truncate', 'commit', 'idle', 'land'],
    apply: () =>
      patch(FileData.prototype, 'defer', ((actions: readonly (() => void)[]) => {
        for (const action of actions) action();
      }) as never),
  },
  {
    name: 'freed blocks still written home by a later checkpoint',
    recordOnly: true,
    ops: METADATA_THEN_DATA,
    apply: () =>
      patch(Journal.prototype, 'dropForgotten', ((transaction: { forgotten: Set<unknown> }) => {
        transaction.forgotten.clear();
      }) as never),
  },
  {
    name: 'blocks marked as written before their data is',
    apply: () => {
      const { iomapBegin } = Filesystem.prototype;
      return patch(Filesystem.prototype, 'iomapBegin', function (
        this: Filesystem,
        ...[ino, pos, count, flags]: Parameters<Filesystem['iomapBegin']>
      ) {
        const mapping = iomapBegin.call(this, ino, pos, count, flags);
        if ((flags & OP_WRITE) !== 0 && mapping.type === TYPE_UNWRITTEN) {
          const length = Math.min(count, mapping.offsetBytes + mapping.lengthBytes - pos);
          this.iomapIoend(ino, pos, length, mapping.addrBytes + (pos - mapping.offsetBytes), 0, 0);
        }
        return mapping;
      } as never);
    },
  },
  {
    name: 'a replay that ignores revoke records',
    ops: ['mkdir', 'rmdir', 'append', 'syncfs', 'setxattr', 'unlink'],
    apply: () => patch(RevokeTable.prototype, 'revokes', (() => false) as never),
  },
  {
    name: 'a recovery that does not flush',
    nestedEach: 4,
    apply: () => patch(StateImage.prototype, 'flush', (() => {}) as never),
  },
  {
    name: 'an fsync that does not wait for its commit',
    apply: () =>
      patch(Journal.prototype, 'whenCommitted', ((_tid: number, tell: (error: null) => void) => {
        queueMicrotask(() => tell(null));
      }) as never),
  },
  {
    name: 'an fsync that does not wait for overwritten data',
    ops: ['write', 'fsync', 'idle'],
    apply: () =>
      patch(Journal.prototype, 'whenDataFlushed', ((tell: (error: null) => void) => {
        queueMicrotask(() => tell(null));
      }) as never),
  },
  {
    name: 'no flush before the block that makes a fast commit whole',
    format: '1k-fast-commit',
    ops: FAST_COMMITTED,
    apply: () => {
      const { steps } = FastArea.prototype;
      return patch(FastArea.prototype, 'steps', function (this: FastArea, bytes: Uint8Array) {
        const all = steps.call(this, bytes);
        return without(all, flushBefore(all, all.length - 1));
      } as never);
    },
  },
  {
    name: 'no flush after a fast commit',
    format: '1k-fast-commit',
    ops: FAST_COMMITTED,
    apply: () => {
      const { steps } = FastArea.prototype;
      return patch(FastArea.prototype, 'steps', function (this: FastArea, bytes: Uint8Array) {
        return steps.call(this, bytes).slice(0, -1);
      } as never);
    },
  },
  {
    name: 'names left out of fast commits',
    format: '1k-fast-commit',
    ops: FAST_COMMITTED,
    apply: () => patch(FastCommitTracker.prototype, 'noteName', (() => {}) as never),
  },
  {
    name: 'ranges left out of fast commits',
    format: '1k-fast-commit',
    ops: FAST_COMMITTED,
    apply: () => patch(FastCommitTracker.prototype, 'noteRange', (() => {}) as never),
  },
  {
    name: 'steps that say nothing of fast commits taken for ones that do',
    format: '1k-fast-commit',
    ops: [...FAST_COMMITTED, 'mkdir', 'setxattr', 'symlink'],
    apply: () => {
      const { run } = Journal.prototype;
      return patch(Journal.prototype, 'run', function (this: Journal, credits: number, step: never) {
        return run.call(this, credits, step, true);
      } as never);
    },
  },
  {
    name: 'no copy kept of what a commit sealed',
    apply: () => {
      const { dirtyMetadata } = Handle.prototype;
      return patch(Handle.prototype, 'dirtyMetadata', function (
        this: Handle,
        block: Parameters<Handle['dirtyMetadata']>[0],
      ) {
        dirtyMetadata.call(this, block);
        if (block.committedCopy !== null) (block as { committedCopy: Uint8Array | null }).committedCopy = block.bytes;
      } as never);
    },
  },
];
