/**
 * Reads and overwrites that native code answers from mappings it was told: whatever changes about a file in between, the
 * next request must see it. Direct I/O, so that each read and write is a request.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { mustBeClean } from '../support/clean.js';
import { codeOf } from '../support/code-of.js';
import { alignedBuffer, O_DIRECT } from '../support/direct-io.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { checkAsyncProperty } from '../support/property.js';
import { Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const BLOCK = 4096;
const BLOCKS = 48;

const place = fc.record({ block: fc.nat(BLOCKS - 1), count: fc.integer({ min: 1, max: 6 }) });
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write'), at: place }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('read'), at: place }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate'), at: place }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('punch'), at: place }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('zero'), at: place }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('allocate'), at: place }) },
);

function mounted(mkfs: string[], use: (at: (name: string) => string) => Promise<void> | void): Promise<void> {
  return withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    makeImageFile(image, 32, mkfs);
    await withMount(image, mountpoint, '', () => use((name) => join(mountpoint, name)));
    mustBeClean(image);
  });
}

const openDirect = (path: string, flags = 0) => openSync(path, constants.O_RDWR | flags | O_DIRECT);

describe('requests answered from known mappings', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const mkfs of [
    ['-b', '4096'],
    ['-b', '1024'],
    ['-t', 'ext3'],
  ]) {
    it(`see every truncate, hole and zeroed range (${mkfs.join(' ')})`, () =>
      mounted(mkfs, async (at) => {
        const source = alignedBuffer(8 * BLOCK);
        const target = alignedBuffer(8 * BLOCK);
        let files = 0;
        await checkAsyncProperty(
          fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
            const path = at(`f${files++ % 4}`);
            const fd = openDirect(path, constants.O_CREAT | constants.O_TRUNC);
            let expected = Buffer.alloc(0);
            const grow = (end: number) => {
              if (end > expected.length) expected = Buffer.concat([expected, Buffer.alloc(end - expected.length)]);
            };
            try {
              for (const [number, { kind, at: where }] of steps.entries()) {
                const from = where.block * BLOCK;
                const length = where.count * BLOCK;
                if (kind === 'write') {
                  source.fill(number + 1);
                  assert.equal(writeSync(fd, source, 0, length, from), length);
                  grow(from + length);
                  source.copy(expected, from, 0, length);
                } else if (kind === 'read') {
                  const got = readSync(fd, target, 0, length, from);
                  assert.ok(target.subarray(0, got).equals(expected.subarray(from, from + length)), `step ${number}`);
                } else if (kind === 'truncate') {
                  ftruncateSync(fd, from);
                  grow(from);
                  expected = expected.subarray(0, from);
                } else {
                  const mode = { punch: ['--punch-hole'], zero: ['--zero-range'], allocate: [] }[kind];
                  const { code, output } = run('fallocate', [...mode, '-o', `${from}`, '-l', `${length}`, path]);
                  if (code !== 0) {
                    // Block-mapped files have no unwritten blocks.
                    assert.ok(kind !== 'punch' && mkfs.includes('ext3') && /not supported/.test(output), output);
                    continue;
                  }
                  if (kind !== 'punch') grow(from + length);
                  if (kind === 'allocate') continue;
                  expected.subarray(from, from + length).fill(0);
                }
              }
            } finally {
              closeSync(fd);
            }
          }),
          { numRuns: 12 },
        );
      }));
  }

  it('never write to blocks that another file has got meanwhile', () =>
    mounted(['-b', '4096'], async (at) => {
      const script = `
        import { constants, fstatSync, openSync, writeSync } from 'node:fs';
        import { alignedBuffer, O_DIRECT } from '${import.meta.resolve('../support/direct-io.js')}';
        const page = alignedBuffer(4096).fill('A');
        const fd = openSync('${at('victim')}', constants.O_RDWR | constants.O_CREAT | O_DIRECT);
        console.log('ready');
        for (;;) {
          const { size } = fstatSync(fd);
          for (let at = 0; at < size; at += 4096) writeSync(fd, page, 0, 4096, at);
        }`;
      const writer = spawn(process.execPath, ['--input-type=module', '-e', script]);
      try {
        await new Promise((ready) => writer.stdout.once('data', ready));
        const victim = openSync(at('victim'), 'r+');
        const own = alignedBuffer(256 << 10).fill('B');
        for (let round = 0; round < 60; round++) {
          writeSync(victim, Buffer.alloc(256 << 10, 'A'), 0, 256 << 10, 0);
          fsyncSync(victim);
          await new Promise((later) => setTimeout(later, 5));
          ftruncateSync(victim, 0);
          fsyncSync(victim);
          const fd = openDirect(at(`other${round % 8}`), constants.O_CREAT | constants.O_TRUNC);
          writeSync(fd, own);
          fsyncSync(fd);
          const back = alignedBuffer(own.length);
          readSync(fd, back, 0, back.length, 0);
          closeSync(fd);
          assert.ok(back.equals(own), `round ${round}`);
        }
        closeSync(victim);
      } finally {
        writer.kill('SIGKILL');
        await new Promise((ended) => writer.once('close', ended));
      }
    }));

  it('write to space allocated ahead, and fsync keeps it through a kill', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      const mount = await Mount.start(image, mountpoint);
      const path = join(mountpoint, 'f');
      const block = alignedBuffer(BLOCK);
      const places = Array.from({ length: 4000 }, (_, i) => (i * 1103) % 4096);
      try {
        assert.equal(run('fallocate', ['-l', `${4096 * BLOCK}`, path]).code, 0);
        const fd = openDirect(path);
        for (const [i, at] of places.entries()) {
          if (i === 3000) fsyncSync(fd);
          block.fill((at % 255) + 1);
          writeSync(fd, block, 0, BLOCK, at * BLOCK);
        }
        const back = alignedBuffer(BLOCK);
        for (const at of [places[0], places[3999], places[2000]]) {
          readSync(fd, back, 0, BLOCK, at * BLOCK);
          assert.ok(back.every((byte) => byte === (at % 255) + 1));
        }
        await mount.kill();
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, '', () => {
        const content = readFileSync(path);
        assert.equal(content.length, 4096 * BLOCK);
        for (const [i, at] of places.entries()) {
          const found = content.subarray(at * BLOCK, (at + 1) * BLOCK);
          const isThere = found.every((byte) => byte === (at % 255) + 1);
          // What was not synced is there, or reads as before.
          assert.ok(isThere || (i >= 3000 && found.every((byte) => byte === 0)), `write ${i}`);
        }
      });
      mustBeClean(image);
    }));

  it('are known to whoever asks for data and holes, when the page cache is written back for that', () =>
    mounted(['-b', '4096'], (at) => {
      const script = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.posix_fallocate(fd, 0, 16 << 20)
page = b'x' * 4096
for i in range(6):
    os.pwrite(fd, page, i * 8192)
    os.fsync(fd)
for i in range(40):
    where = (1 << 20) + i * 65536
    os.pwrite(fd, page, where)
    found = os.lseek(fd, where, os.SEEK_DATA)
    if found != where:
        print(f'{where}: {found}')
`;
      assert.equal(run('python3', ['-c', script, at('f')]).output, '');
    }));

  it('are kept when the server is told to end while a file is open', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 160);
      const path = join(mountpoint, 'f');
      const mount = await Mount.start(image, mountpoint);
      let written = 0;
      try {
        assert.equal(run('fallocate', ['-l', `${32768 * BLOCK}`, path]).code, 0);
        const fd = openDirect(path);
        const block = alignedBuffer(BLOCK).fill(7);
        const ends = performance.now() + 30_000;
        // Space that was not written before, all the time; longer than the server waits for a file in use.
        for (; performance.now() < ends && written < 16384; written++) {
          if (written === 100) process.kill(mount.pid, 'SIGTERM');
          try {
            writeSync(fd, block, 0, BLOCK, written * 2 * BLOCK);
          } catch {
            break;
          }
          for (const next = performance.now() + 1; performance.now() < next; );
        }
        // There is nobody any more to say that it is closed.
        assert.equal(
          codeOf(() => closeSync(fd)),
          'ENOTCONN',
        );
        while (existsSync(`/proc/${mount.pid}`)) await new Promise((later) => setTimeout(later, 20));
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, '', () => {
        const content = readFileSync(path);
        for (let i = 0; i < written; i++) assert.equal(content[i * 2 * BLOCK], 7, `write ${i} of ${written}`);
      });
      mustBeClean(image);
    }));

  it('are refused once the file is immutable', function () {
    requireOrSkip(this as unknown as Mocha.Context, process.getuid?.() === 0 ? null : 'flags are for root');
    return mounted(['-b', '4096'], (at) => {
      writeFileSync(at('f'), Buffer.alloc(64 << 10));
      const fd = openDirect(at('f'));
      const block = alignedBuffer(BLOCK);
      for (let i = 0; i < 50; i++) writeSync(fd, block, 0, BLOCK, (i % 16) * BLOCK);
      assert.equal(run('chattr', ['+i', at('f')]).output, '');
      assert.equal(
        codeOf(() => writeSync(fd, block, 0, BLOCK, 0)),
        'EPERM',
      );
      assert.equal(run('chattr', ['-i', at('f')]).output, '');
      assert.equal(writeSync(fd, block, 0, BLOCK, 0), BLOCK);
      closeSync(fd);
    });
  });
});
