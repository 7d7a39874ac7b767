/**
 * Every single I/O of a workload fails in turn, once or for good: reads, writes, flushes; with EIO, ENOSPC, or half done.
 * What fsync then promises holds all the same, what is there can still be read, and the next mount recovers.
 */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { readTree } from '../../../src/crash/recovered.js';
import { StateImage } from '../../../src/crash/state-image.js';
import { FsError } from '../../../src/errors.js';
import type { Command } from './commands.js';
import { explore, Tally } from './explorer.js';
import { type Fault, FaultyDevice } from './faulty-device.js';
import { formatNamed, poisonedImage } from './formats.js';
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
};

const KINDS: readonly Omit<Fault, 'nth' | 'lasting'>[] = [
  { on: 'read', errno: 'EIO' },
  { on: 'write', errno: 'EIO' },
  { on: 'write', errno: 'ENOSPC', shortened: true },
  { on: 'flush', errno: 'EIO' },
  { on: 'flush', errno: 'EIO', loses: true },
];

const pristine = poisonedImage(formatNamed('1k'));
const image = new StateImage(pristine.slice());

/** Runs the script with one fault. False if it was never met: the script has fewer such I/Os. */
async function runWith(script: readonly Command[], fault: Fault): Promise<boolean> {
  const device = new FaultyDevice(new MemoryDevice(pristine.slice()), fault, BLOCK);
  let workload: Workload;
  try {
    workload = new Workload(device, { device });
  } catch (error) {
    // A mount that meets the fault says so, and leaves an image that mounts.
    assert.ok(error instanceof FsError && error.code === fault.errno, String(error));
    return true;
  }
  for (const command of script) await workload.run(command);
  const errorBefore = workload.aborted;
  device.mended = true;
  if (errorBefore !== null) readTree(workload.fs);
  const recorded = await workload.finish();
  if (device.metAt === null) return false;
  explore(image, recorded, { from: device.metAt }, new Tally());
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
              if (!(await runWith(script, fault))) break;
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
});
