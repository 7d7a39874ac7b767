/**
 * The power goes at any moment: writes since the last completed flush are dropped, kept, halved or torn. After replay
 * the filesystem must be clean and hold everything that was fsynced.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { FsError } from '../../src/errors.js';
import { checkFilesystem } from '../../src/ext4/check/check.js';
import { Filesystem } from '../../src/ext4/filesystem.js';
import { frozenVolume } from '../../src/ext4/frozen-volume.js';
import { readGeometry } from '../../src/ext4/open.js';
import { readAll, writeAt } from '../support/file-io.js';
import { fsck, makeImage } from '../support/mke2fs.js';
import { checkProperty } from '../support/property.js';
import { type Cut, RecordingDevice } from '../support/recording-device.js';

const ROOT = 2;
/** e2fsck takes most of the time: it judges one of so many states, our own check every one. */
const E2FSCK_EACH = 4;
const CRED = { uid: 0, gid: 0 };
const encode = (text: string) => new TextEncoder().encode(text);

type Step =
  | {
      readonly op: 'write';
      readonly file: number;
      readonly pos: number;
      readonly length: number;
      readonly fill: number;
    }
  | { readonly op: 'truncate'; readonly file: number; readonly size: number }
  | { readonly op: 'unlink'; readonly file: number }
  | { readonly op: 'rename'; readonly file: number; readonly to: number }
  | { readonly op: 'mkdir'; readonly file: number }
  | { readonly op: 'setxattr'; readonly file: number; readonly length: number }
  | { readonly op: 'fsync'; readonly file: number }
  | { readonly op: 'checkpoint' };

const file = fc.integer({ min: 0, max: 7 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('write' as const),
      file,
      pos: fc.integer({ min: 0, max: 60_000 }),
      length: fc.integer({ min: 1, max: 30_000 }),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('truncate' as const), file, size: fc.integer({ min: 0, max: 80_000 }) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('unlink' as const), file }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('rename' as const), file, to: file }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('mkdir' as const), file }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('setxattr' as const), file, length: fc.integer({ min: 0, max: 900 }) }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('fsync' as const), file }) },
  { weight: 1, arbitrary: fc.constant({ op: 'checkpoint' as const }) },
);

/** What an fsync promised: the file's name, and its whole content at that moment. */
type Promised = Map<string, Uint8Array>;

class Workload {
  readonly fs: Filesystem;
  /** Content that each name must have if no later operation touched it. */
  readonly promised: Promised = new Map();
  private now = 1_700_000_000;
  private random = 1;

  constructor(device: RecordingDevice) {
    this.fs = Filesystem.open(device, {
      env: {
        now: () => ({ seconds: this.now++, nanoseconds: 0 }),
        monotonicMs: () => 0,
        random32: () => {
          this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
          return this.random;
        },
        schedule: () => () => {},
      },
    });
  }

  apply(step: Step): void {
    try {
      this.perform(step);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    }
  }

  private perform(step: Step): void {
    const { fs } = this;
    if (step.op === 'checkpoint') {
      fs.volume.journal.flushAll();
      return;
    }
    const name = `f${step.file}`;
    const ino = fs.lookup(ROOT, encode(name));
    switch (step.op) {
      case 'write': {
        this.promised.delete(name);
        const target = ino === 0 ? fs.create(ROOT, encode(name), 0o100644, CRED) : ino;
        if ((fs.stat(target).mode & 0o170000) === 0o100000) {
          writeAt(fs, target, step.pos, new Uint8Array(step.length).fill(step.fill));
        }
        break;
      }
      case 'truncate':
        if (ino !== 0) {
          this.promised.delete(name);
          fs.setattr(ino, { size: step.size });
        }
        break;
      case 'unlink':
        if (ino !== 0) {
          this.promised.delete(name);
          const isDirectory = (fs.stat(ino).mode & 0o170000) === 0o040000;
          const gone = isDirectory ? fs.rmdir(ROOT, encode(name)) : fs.unlink(ROOT, encode(name));
          if (isDirectory || fs.isUnlinked(gone)) fs.evict([gone]);
        }
        break;
      case 'rename':
        if (ino !== 0 && step.to !== step.file) {
          this.promised.delete(name);
          this.promised.delete(`f${step.to}`);
          const { replaced } = fs.rename(ROOT, encode(name), ROOT, encode(`f${step.to}`), 0, CRED);
          if (replaced !== 0 && fs.isUnlinked(replaced)) fs.evict([replaced]);
        }
        break;
      case 'mkdir':
        if (ino === 0) {
          const made = fs.mkdir(ROOT, encode(name), 0o755, CRED);
          for (let i = 0; i < 20; i++) fs.create(made, encode(`child-with-a-rather-long-name-${i}`), 0o100600, CRED);
        }
        break;
      case 'setxattr':
        if (ino !== 0) fs.setxattr(ino, encode('user.note'), new Uint8Array(step.length).fill(7), 0);
        break;
      case 'fsync':
        if (ino !== 0 && (fs.stat(ino).mode & 0o170000) === 0o100000) {
          const content = readAll(fs, ino);
          fs.volume.journal.commitNow();
          this.settle(ino);
          this.promised.set(name, content);
        }
        break;
    }
  }

  /** fsync without an event loop: the commit is done, a flush covers data overwritten in place. */
  private settle(ino: number): void {
    let answered = false;
    this.fs.sync(ino, () => {
      answered = true;
    });
    if (!answered) this.fs.volume.device.flush();
  }
}

function verify(image: Uint8Array, promised: Promised, what: string, askE2fsck: boolean): void {
  const device = new MemoryDevice(image);
  const fs = Filesystem.open(device);
  for (const [name, content] of promised) {
    const ino = fs.lookup(ROOT, encode(name));
    assert.notEqual(ino, 0, `${what}: ${name} was fsynced and is gone`);
    const found = readAll(fs, ino);
    assert.ok(
      Buffer.from(found).equals(Buffer.from(content)),
      `${what}: the content of ${name} is not what was fsynced`,
    );
  }
  fs.closeSync();
  const { findings } = checkFilesystem(frozenVolume(device, readGeometry(device)));
  assert.deepEqual(
    findings.map(({ message }) => message),
    [],
    what,
  );
  if (!askE2fsck) return;
  const { code, output } = fsck(image);
  assert.equal(code, 0, `${what}: e2fsck -fn: ${output}`);
}

describe('after a power cut', function () {
  this.timeout(600_000);

  for (const { title, args, sizeMiB } of [
    { title: '4k blocks', args: [], sizeMiB: 16 },
    { title: '1k blocks, small log', args: ['-b', '1024', '-J', 'size=1'], sizeMiB: 8 },
    { title: '4k blocks, orphan file', args: ['-O', 'orphan_file,metadata_csum_seed'], sizeMiB: 16 },
  ]) {
    it(`everything fsynced is there and e2fsck is content (${title})`, () => {
      const pristine = makeImage(sizeMiB, args);
      checkProperty(
        fc.property(
          fc.array(step, { minLength: 5, maxLength: 60 }),
          fc.uniqueArray(fc.integer({ min: 0, max: 119 }), { minLength: 1, maxLength: 12 }),
          fc.constantFrom<Cut['kind']>('drop-all', 'keep-all', 'keep-half', 'tear'),
          fc.integer({ min: 1, max: 0x7fffffff }),
          (steps, moments, kind, pickSeed) => {
            const device = new RecordingDevice(pristine.slice());
            const cuts: { image: Uint8Array; promised: Promised; at: number }[] = [];
            const workload = new Workload(device);
            let event = 0;
            const pick = (n: number) => ((Math.imul(n + pickSeed, 2654435761) >>> 16) & 1) === 0;
            const cut = (): Cut => (kind === 'keep-half' || kind === 'tear' ? { kind, pick } : { kind });
            // A few cuts a run, at events chosen from as many as such a run usually has.
            device.onEvent = () => {
              if (moments.includes(event)) {
                cuts.push({ image: device.imageAfter(cut()), promised: new Map(workload.promised), at: event });
              }
              event++;
            };
            for (const each of steps) workload.apply(each);
            if (cuts.length === 0) {
              cuts.push({ image: device.imageAfter(cut()), promised: new Map(workload.promised), at: event });
            }
            cuts.forEach(({ image, promised, at }, i) => {
              verify(image, promised, `cut (${kind}) at event ${at}`, i % E2FSCK_EACH === 0);
            });
          },
        ),
        { numRuns: Number(process.env.EXT4D_RUNS ?? 40) },
      );
    });
  }
});
