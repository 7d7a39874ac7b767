/**
 * Every single I/O of a workload fails in turn, once or for good: reads, writes, flushes; with EIO, ENOSPC, or half done.
 * What fsync then promises holds all the same, what is there can still be read, and the next mount recovers.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { readTree } from '../../../src/crash/recovered.js';
import { StateImage } from '../../../src/crash/state-image.js';
import { FsError } from '../../../src/errors.js';
import { checkAsyncProperty } from '../../support/property.js';
import { type Command, commandArbitrary, PRELUDE } from './commands.js';
import { explore, Tally } from './explorer.js';
import { type Fault, FaultyDevice } from './faulty-device.js';
import { formatNamed, poisonedImage } from './formats.js';
import { treeText } from './model.js';
import { describe as describeCommand, Workload } from './workload.js';

const BLOCK = 1024;
const SCRIPTS: Readonly<Record<string, readonly Command[]>> = {
  'writes, fsyncs and a checkpoint': [
    { op: 'mkdir', path: 'd' },
    { op: 'write', path: 'a', pos: 0, length: 3 * BLOCK },
    { op: 'fsync', path: 'a' },
    { op: 'write', path: 'd/a', pos: 500, length: 2 * BLOCK },
    { op: 'write', path: 'a', pos: 100, length: 50 },
    { op: 'fsync', path: 'a' },
    { op: 'checkpoint' },
    { op: 'idle' },
    { op: 'append', path: 'd/a', length: BLOCK },
    { op: 'fsync', path: 'd/a' },
  ],
  'names, attributes, and files that go': [
    { op: 'mkdir', path: 'd' },
    { op: 'setxattr', path: 'a', name: 'user.a', length: 600 },
    { op: 'symlink', path: 'b', length: 200 },
    { op: 'syncfs' },
    { op: 'rename', path: 'a', to: 'd/a' },
    { op: 'write', path: 'c', pos: 0, length: 5 * BLOCK },
    { op: 'fsync', path: 'd' },
    { op: 'unlink', path: 'd/a', open: true },
    { op: 'truncate', path: 'c', size: 100 },
    { op: 'fsync', path: 'c' },
    { op: 'close' },
    { op: 'checkpoint' },
    { op: 'syncfs' },
    { op: 'punch', path: 'c', pos: 0, length: 50 },
    { op: 'syncfs' },
  ],
  'fast commits, and a full one behind them': [
    { op: 'write', path: 'a', pos: 0, length: 3 * BLOCK },
    { op: 'syncfs' },
    { op: 'append', path: 'a', length: 2 * BLOCK },
    { op: 'fsync', path: 'a' },
    { op: 'create', path: 'b' },
    { op: 'write', path: 'b', pos: 0, length: BLOCK },
    { op: 'fsync', path: 'b' },
    { op: 'rename', path: 'b', to: 'a' },
    { op: 'fsync', path: 'a' },
    { op: 'truncate', path: 'a', size: 100 },
    { op: 'commit' },
    { op: 'fsync', path: 'a' },
    { op: 'append', path: 'a', length: 10 },
    { op: 'fsync', path: 'a' },
  ],
  // A commit is queued behind a checkpoint whose flush fails: it must not go on as if nothing had been lost.
  'a commit behind a checkpoint': [
    { op: 'write', path: 'b', pos: 0, length: BLOCK },
    { op: 'syncfs' },
    { op: 'checkpoint' },
    { op: 'append', path: 'a', length: 3 * BLOCK },
    { op: 'commit' },
    { op: 'idle' },
  ],
};

const KINDS: readonly Omit<Fault, 'nth' | 'lasting'>[] = [
  { on: 'read', errno: 'EIO' },
  { on: 'write', errno: 'EIO' },
  { on: 'write', errno: 'ENOSPC', shortened: true },
  { on: 'flush', errno: 'EIO' },
  { on: 'flush', errno: 'EIO', loses: true },
];

/** The script that runs on an image with that feature. */
const FAST_COMMITS = 'fast commits, and a full one behind them';

class Ground {
  readonly pristine: Uint8Array;
  readonly image: StateImage;

  constructor(format: string) {
    this.pristine = poisonedImage(formatNamed(format));
    this.image = new StateImage(this.pristine.slice());
  }
}

const plain = new Ground('1k');
const withFastCommits = new Ground('1k-fast-commit');

/** Runs the script with one fault. False if it was never met: the script has fewer such I/Os. */
async function runWith(script: readonly Command[], fault: Fault, ground = plain): Promise<boolean> {
  const device = new FaultyDevice(new MemoryDevice(ground.pristine.slice()), fault, BLOCK);
  let workload: Workload;
  try {
    workload = new Workload(device, { device });
  } catch (error) {
    // A mount that meets the fault says so, and leaves an image that mounts.
    assert.ok(error instanceof FsError && error.code === fault.errno, String(error));
    return true;
  }
  for (const command of script) await workload.run(command);
  // What is there can be read, and is what it was; unless it is reading that fails.
  if (workload.aborted !== null && fault.on !== 'read') {
    const { versions } = workload.model;
    assert.equal(treeText(readTree(workload.fs)), versions[versions.length - 1].tree, 'after the abort');
  }
  // Unmounting meets the fault as well.
  const recorded = await workload.finish();
  device.mended = true;
  if (device.metAt === null) return false;
  explore(ground.image, recorded, { from: device.metAt }, new Tally());
  return true;
}

describe('when an I/O of the device fails', function () {
  this.timeout(120_000);

  for (const [title, script] of Object.entries(SCRIPTS)) {
    for (const kind of KINDS) {
      for (const lasting of [false, true]) {
        const what = `${kind.on} with ${kind.errno}${kind.shortened ? ', half done' : ''}${kind.loses ? ', and what it covers is lost' : ''}`;
        it(`each ${what} in turn, ${lasting ? 'and all after it' : 'once'}: ${title}`, async () => {
          let nth = 1;
          for (; ; nth++) {
            const fault: Fault = { ...kind, nth, lasting };
            try {
              if (!(await runWith(script, fault, title === FAST_COMMITS ? withFastCommits : plain))) break;
            } catch (error) {
              throw new Error(
                `${JSON.stringify(fault)}: ${error instanceof Error ? error.stack : error}\n${script.map(describeCommand).join('\n')}`,
              );
            }
          }
          assert.ok(nth > 3, `only ${nth - 1} such I/Os`);
        });
      }
    }
  }

  it('whatever the workload, whichever I/O it is', async () => {
    const scripts = fc.array(commandArbitrary(BLOCK), { minLength: 3, maxLength: 30, size: 'max' });
    const faults = fc.record({
      kind: fc.constantFrom(...KINDS),
      nth: fc.integer({ min: 1, max: 40 }),
      lasting: fc.boolean(),
    });
    await checkAsyncProperty(
      fc.asyncProperty(scripts, faults, async (script, { kind, nth, lasting }) => {
        await runWith([...PRELUDE, ...script], { ...kind, nth, lasting });
      }),
      { numRuns: 250 },
    );
  });

  it('a flush that takes the error of another does not let the others go on', async () => {
    for (const command of ['commit', 'checkpoint'] as const) {
      const fault: Fault = { on: 'flush', errno: 'EIO', loses: true, nth: 4, lasting: false };
      const device = new FaultyDevice(new MemoryDevice(plain.pristine.slice()), fault, BLOCK);
      const workload = new Workload(device, { device });
      const { journal } = workload.fs.volume;
      await workload.run({ op: 'write', path: 'b', pos: 0, length: BLOCK });
      await workload.run({ op: 'syncfs' });
      await workload.run({ op: 'append', path: 'a', length: 3 * BLOCK });
      await workload.run({ op: command });
      device.step();
      // Somebody else's fsync of data written in place: its flush runs beside the journal's, and fails.
      journal.noteDataWrite();
      journal.whenDataFlushed(() => {});
      device.step(true);
      device.step(true);
      while (device.busy) {
        device.step();
        await null;
      }
      assert.notEqual(workload.aborted, null, command);
      device.mended = true;
      explore(plain.image, await workload.finish(), { from: device.metAt ?? 0 }, new Tally());
    }
  });
});
