/** Logs that others wrote, replayed here and by debugfs: the results must be the same, block for block. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { readGeometry } from '../../src/ext4/open.js';
import { type LogReport, recoverLog } from '../../src/ext4/recover.js';
import { type DirtyOptions, makeKernelDirty, noKernelDirty } from '../support/kernel-dirty.js';
import { makeImageFile, run, withScratch } from '../support/mke2fs.js';
import { differingBlocks, journalRun } from '../support/replay-compare.js';
import { requireOrSkip } from '../support/server.js';

/** Replays the image file in place. */
function replayFile(path: string): LogReport {
  const image = new Uint8Array(readFileSync(path));
  const device = new MemoryDevice(image);
  const report = recoverLog(device, readGeometry(device));
  writeFileSync(path, image);
  return report;
}

function compareWithDebugfs(directory: string, dirty: string): LogReport {
  const ours = join(directory, 'ours');
  const theirs = join(directory, 'theirs');
  copyFileSync(dirty, ours);
  copyFileSync(dirty, theirs);
  const report = replayFile(ours);
  assert.equal(report.state, 'recovered');
  journalRun(theirs);
  assert.deepEqual(differingBlocks(ours, theirs), []);

  const again = readFileSync(ours);
  assert.equal(replayFile(ours).state, 'clean');
  assert.ok(readFileSync(ours).equals(again), 'a second replay writes nothing');
  return report;
}

const KERNEL: Record<string, DirtyOptions> = {
  'default features': {},
  'default features, log flushed': { shutdownMode: 1 },
  '1 KiB blocks': { mkfs: ['-b', '1024'] },
  '2 KiB blocks': { mkfs: ['-b', '2048'] },
  'a log that wraps': { mkfs: ['-b', '1024', '-J', 'size=1'], operations: 900 },
  'no checksums': { mkfs: ['-O', '^metadata_csum'] },
  'no 64bit': { mkfs: ['-O', '^64bit'] },
  'checksum v1': { mkfs: ['-O', '^metadata_csum,^64bit'], mountOptions: 'journal_checksum' },
  'asynchronous commits': { mountOptions: 'journal_checksum,journal_async_commit,data=writeback' },
  'an orphan file': { mkfs: ['-O', 'orphan_file'] },
  'data=writeback': { mountOptions: 'data=writeback' },
  'data=journal': { mkfs: ['-J', 'size=16'], mountOptions: 'data=journal', sizeMiB: 96 },
  'clusters, 4 KiB blocks': { mkfs: ['-O', 'bigalloc', '-C', '65536'] },
  'clusters, 1 KiB blocks': { mkfs: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'] },
  'a journal mapped by indirect blocks': { mkfs: ['-O', '^extent,^64bit'] },
};

describe('replay of logs that the kernel wrote', function () {
  this.timeout(60_000);
  const obstacle = noKernelDirty();
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, obstacle);
  });

  for (const [name, options] of Object.entries(KERNEL)) {
    it(name, () =>
      withScratch((directory) => {
        const dirty = join(directory, 'dirty');
        makeKernelDirty(dirty, directory, options);
        const report = compareWithDebugfs(directory, dirty);
        assert.ok(report.transactions > 0, 'there was something to replay');
      }),
    );
  }
});

/** debugfs' journal_write needs no root, and writes checksum v2, which no kernel writes any more. */
function writeLog(path: string, version: number, steps: readonly string[]): void {
  const commands = [`journal_open -c -v ${version}`, ...steps, 'journal_close', ''];
  const { code, output } = run('debugfs', ['-w', '-f', '-', path], commands.join('\n'));
  if (code !== 0 || /while/.test(output)) throw new Error(`debugfs: ${output}`);
}

describe('replay of logs that debugfs wrote', function () {
  this.timeout(60_000);
  const FEATURES: Record<string, readonly string[]> = { 'wide tags': [], 'narrow tags': ['-O', '^64bit'] };
  for (const [name, features] of Object.entries(FEATURES)) {
    // Without checksums it forgets the commit block.
    for (const version of [2, 3]) {
      it(`${name}, checksum v${version}`, () =>
        withScratch((directory) => {
          const dirty = join(directory, 'dirty');
          makeImageFile(dirty, 16, ['-b', '1024', ...features]);
          const content = join(directory, 'content');
          const data = Buffer.alloc(1024 * 600, 'logged ');
          // Blocks that begin with the journal's magic number are logged escaped.
          for (let at = 0; at < data.length; at += 3072) data.writeUInt32BE(0xc03b3998, at);
          writeFileSync(content, data);
          writeLog(dirty, version, [
            `journal_write -b 12000-12500,13000 ${content}`,
            'journal_write -r 12001,12003,12500',
            `journal_write -b 12003,12700-12710 ${content}`,
          ]);
          const report = compareWithDebugfs(directory, dirty);
          assert.equal(report.transactions, 3);
          assert.equal(report.revokeHits, 3);
        }));
    }
  }
});
